//! The stories: each module one, on real PostgreSQL, RabbitMQ and S3.

mod bad_inputs;
mod batches;
mod broker_restarts;
mod cancel;
mod chaos;
mod command_line;
mod drain;
mod follow;
mod idempotency;
mod janitor;
mod journey;
mod keys;
mod lapsed_lease;
mod lists;
mod postgres_restarts;
mod price;
mod publication;
mod resume;
mod retry;
mod shared_upload;
mod silent_database;
mod stale_completion;
mod tenants;
mod two_coordinators;
mod webhooks;
mod worker_killed;
