-- +goose Up

-- The master keys that were used with this database. The fingerprint distinguishes keys with
-- the same ID. Pseudonyms cannot be recomputed with another key, so the key that computes
-- them is stored, encrypted, for the time after the master key is removed.
create table master_keys (
	id          text primary key,
	fingerprint text not null,
	pseudonyms  text not null,
	created_at  timestamptz not null default now()
);

-- Previous secrets of instances, which remain valid for the grace period.
create table retired_secrets (
	id          uuid primary key,
	tenant_id   uuid not null,
	instance_id uuid not null,
	kind        text not null check (kind in ('webhook_secret', 'agent_secret_key')),
	sealed      text,
	hash        text,
	until       timestamptz not null,
	created_at  timestamptz not null default now(),
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade
);
create index retired_secrets_instance on retired_secrets (tenant_id, instance_id, kind);
create index retired_secrets_hash on retired_secrets (hash) where hash is not null;

-- The grace period of the previous credential in seconds, and when it ends. It starts when
-- the provider has the new credential. Null: there is none, or it has not started.
alter table endpoints
	add column old_for   integer check (old_for > 0),
	add column old_until timestamptz;

-- The ID of the master key with which the last claim code was hashed.
alter table identities add column claim_key text;
