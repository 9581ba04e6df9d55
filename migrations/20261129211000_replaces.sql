-- The job whose result this one may replace under `if_exists: fail`: the parent batch's, and nobody else's, who
-- may have put his own there after the item was listed.
alter table jobs add column replaces uuid;
