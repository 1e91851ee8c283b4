-- +goose Up

-- Up to when the provider's own log of an endpoint's messages has been gone through,
-- when that is due again (null: now), and how often it failed since.
alter table endpoints
	add column backfilled_at     timestamptz,
	add column backfill_at       timestamptz,
	add column backfill_failures integer not null default 0;

-- Who was erased since, asked before anything older is stored.
create index identity_owners_erased on identity_owners (tenant_id, erased_at) where erased_at is not null;
