-- The job whose result this one may replace: the parent batch's, and nobody else's, who may have put his own there
-- after the item was listed. Coordinators of the release before see `if_exists: overwrite` alone.
alter table jobs add column replaces uuid;
