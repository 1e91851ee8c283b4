-- +goose Up

-- The time up to which the provider's message log was searched, when the next back-fill is
-- due (null: now), and the number of failures since the last success.
alter table endpoints add column backfilled_at timestamp;
alter table endpoints add column backfill_at timestamp;
alter table endpoints add column backfill_failures integer not null default 0;

-- Finds recently erased persons, so that their older messages are not stored again.
create index identity_owners_erased on identity_owners (tenant_id, erased_at) where erased_at is not null;
