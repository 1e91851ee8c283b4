-- +goose Up
create table tenants (
	id         uuid primary key,
	name       text not null unique,
	created_at timestamptz not null default now()
);
insert into tenants (id, name) values ('00000000-0000-7000-8000-000000000001', 'default');

create table api_keys (
	id           uuid primary key,
	tenant_id    uuid not null references tenants,
	name         text not null,
	hint         text not null,
	hash         text not null unique,
	scopes       text not null,
	instance_id  uuid,
	expires_at   timestamptz,
	revoked_at   timestamptz,
	last_used_at timestamptz,
	created_at   timestamptz not null,
	unique (tenant_id, id)
);

create table instances (
	id                 uuid primary key,
	tenant_id          uuid not null references tenants,
	name               text not null,
	agent_url          text,
	agent_disabled_at  timestamptz,
	unknown_senders    text not null default 'forward' check (unknown_senders in ('forward', 'reply', 'drop')),
	welcome_text       text,
	agent_secret_hash  text not null unique,
	webhook_secret     text not null,
	webhook_secret_old text,
	created_at         timestamptz not null,
	updated_at         timestamptz not null,
	unique (tenant_id, id)
);
alter table api_keys add foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade;

create table endpoints (
	id            uuid primary key,
	tenant_id     uuid not null,
	instance_id   uuid not null,
	channel       text not null,
	mode          text not null,
	address       text not null default '',
	status        text not null check (status in ('active', 'error', 'disabled')),
	error_message text,
	settings      text not null default '{}',
	credentials   text not null,
	retry_at      timestamptz,
	retries       integer not null default 0,
	last_event_at timestamptz,
	poll_cursor   text not null default '',
	poll_holder   text not null default '',
	poll_epoch    bigint not null default 0 constraint endpoints_poll check (poll_epoch >= 0),
	poll_until    timestamptz not null default '1970-01-01 00:00:00+00',
	created_at    timestamptz not null,
	updated_at    timestamptz not null,
	unique (tenant_id, id),
	unique (instance_id, channel),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade
);
create index endpoints_retry on endpoints (retry_at) where retry_at is not null;

create table customers (
	id           uuid primary key,
	tenant_id    uuid not null references tenants,
	email        text,
	phone_number text,
	first_name   text,
	last_name    text,
	company_name text,
	locale       text,
	timezone     text,
	metadata     text not null default '{}',
	created_at   timestamptz not null,
	updated_at   timestamptz not null,
	unique (tenant_id, id)
);
create unique index customers_email on customers (tenant_id, lower(email)) where email is not null;
create index customers_phone on customers (tenant_id, phone_number) where phone_number is not null;
create index customers_first_name on customers (tenant_id, lower(first_name) text_pattern_ops);
create index customers_last_name on customers (tenant_id, lower(last_name) text_pattern_ops);
create index customers_company on customers (tenant_id, lower(company_name) text_pattern_ops);

create table identities (
	id               uuid primary key,
	tenant_id        uuid not null references tenants,
	instance_id      uuid,
	customer_id      uuid,
	channel          text not null,
	external_id      text not null,
	display_name     text,
	username         text,
	role_override    text check (role_override = 'owner'),
	metadata         text not null default '{}',
	verified_at      timestamptz,
	claim_gen        bigint not null default 0 constraint identities_claim check (claim_gen >= 0),
	claim_expires_at timestamptz,
	claim_used_msg   uuid,
	claim_revoked_at timestamptz,
	unlink_asked_at  timestamptz,
	opted_out_at     timestamptz,
	blocked_at       timestamptz,
	created_at       timestamptz not null,
	updated_at       timestamptz not null,
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade,
	foreign key (tenant_id, customer_id) references customers (tenant_id, id),
	check (customer_id is not null or instance_id is not null),
	check (customer_id is not null or (verified_at is null and role_override is null))
);
create unique index identities_address on identities
	(tenant_id, channel, external_id, coalesce(instance_id, '00000000-0000-0000-0000-000000000000'));
create index identities_customer on identities (tenant_id, customer_id, created_at) where customer_id is not null;
create index identities_unknown on identities (tenant_id, id) where customer_id is null;

-- A conversation is the thread between a chat on a channel and one instance.
create table conversations (
	id          uuid primary key,
	tenant_id   uuid not null,
	instance_id uuid not null,
	channel     text not null,
	place_id    text not null,
	is_group    boolean not null,
	identity_id uuid,
	created_at  timestamptz not null,
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade,
	foreign key (tenant_id, identity_id) references identities (tenant_id, id)
);
create index conversations_identity on conversations (tenant_id, identity_id) where identity_id is not null;

-- A row of lanes is a queue: the work of one kind for one conversation. Only the holder
-- of its lease processes it, in order. A write after the lease was lost, or for a claim
-- that is no longer valid, violates a check, which rolls back the transaction.
create table lanes (
	conversation_id uuid not null,
	kind            text not null check (kind in ('inbox', 'delivery', 'outbox')),
	tenant_id       uuid not null,
	due_at          timestamptz,
	wakes           bigint not null default 0 constraint lanes_claim check (wakes >= 0),
	holder          text not null default '',
	epoch           bigint not null default 0 constraint lanes_lease check (epoch >= 0),
	lease_until     timestamptz not null default '1970-01-01 00:00:00+00',
	primary key (conversation_id, kind),
	foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) on delete cascade
) with (fillfactor = 70);
create index lanes_due on lanes (kind, due_at) where due_at is not null;

create table messages (
	id              uuid primary key,
	seq             bigint generated always as identity,
	tenant_id       uuid not null,
	conversation_id uuid not null,
	instance_id     uuid not null,
	channel         text not null,
	key             text not null,
	alt_key         text,
	kind            text not null,
	sender_id       text not null default '',
	body            text not null,
	text            text not null default '',
	sealed          text,
	state           text not null default 'new' check (state in ('new', 'done', 'dead')),
	outcome         text,
	attempts        integer not null default 0,
	received_at     timestamptz not null default now(),
	worked_at       timestamptz,
	unique (tenant_id, id),
	foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) on delete cascade
) with (fillfactor = 80);
create unique index messages_key on messages (instance_id, channel, key);
create unique index messages_alt_key on messages (instance_id, channel, alt_key) where alt_key is not null;
create index messages_conversation on messages (conversation_id, seq);
create index messages_new on messages (conversation_id, seq) where state = 'new';

create table deliveries (
	id              uuid primary key,
	seq             bigint generated always as identity,
	tenant_id       uuid not null,
	conversation_id uuid not null,
	instance_id     uuid not null,
	message_id      uuid,
	identity_id     uuid,
	event_type      text not null,
	status          text not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
	attempts        integer not null default 0,
	due_at          timestamptz not null,
	answer_status   integer,
	error           text,
	created_at      timestamptz not null,
	settled_at      timestamptz,
	unique (tenant_id, id),
	foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) on delete cascade,
	foreign key (tenant_id, message_id) references messages (tenant_id, id)
) with (fillfactor = 80);
create index deliveries_pending on deliveries (conversation_id, seq) where status = 'pending';
create index deliveries_message on deliveries (message_id);
create index deliveries_status on deliveries (tenant_id, status, id) where status <> 'delivered';

create table outbox (
	id              uuid primary key,
	seq             bigint generated always as identity,
	tenant_id       uuid not null,
	conversation_id uuid not null,
	instance_id     uuid not null,
	channel         text not null,
	recipient       text not null,
	place           text not null,
	text            text not null,
	reply_to        text,
	cause           text not null,
	message_id      uuid,
	status          text not null default 'queued' check (status in ('queued', 'sending', 'sent', 'delivered', 'failed', 'unknown')),
	attempts        integer not null default 0,
	maybe           boolean not null default false,
	due_at          timestamptz not null,
	provider_id     text,
	reason          text,
	code            text,
	created_at      timestamptz not null,
	updated_at      timestamptz not null,
	unique (tenant_id, id),
	foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) on delete cascade
) with (fillfactor = 80);
create index outbox_pending on outbox (conversation_id, seq) where status in ('queued', 'sending');
create index outbox_conversation on outbox (conversation_id, seq);
create index outbox_provider on outbox (instance_id, channel, provider_id) where provider_id is not null;

-- Delivery receipts of replies. They have a table of their own because a receipt may
-- arrive before the provider's ID of the reply is stored.
create table receipts (
	tenant_id   uuid not null,
	instance_id uuid not null,
	channel     text not null,
	provider_id text not null,
	status      text not null,
	rank        integer not null,
	code        text not null default '',
	at          timestamptz not null,
	primary key (instance_id, channel, provider_id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade
);

-- Wrong codes by sender, for the limits that must survive a loss of the code store.
create table claim_failures (
	tenant_id   uuid not null,
	instance_id uuid not null,
	channel     text not null,
	sender_id   text not null,
	message_id  uuid not null primary key,
	at          timestamptz not null default now(),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade
);
create index claim_failures_sender on claim_failures (tenant_id, instance_id, channel, sender_id, at);

create table audit_events (
	id          uuid primary key,
	seq         bigint generated always as identity,
	tenant_id   uuid not null references tenants,
	kind        text not null,
	actor       text not null,
	customer_id uuid,
	identity_id uuid,
	instance_id uuid,
	message_id  uuid,
	detail      text not null default '{}',
	at          timestamptz not null default now()
);
create index audit_events_identity on audit_events (tenant_id, identity_id, at) where identity_id is not null;
create index audit_events_actor on audit_events (tenant_id, actor, kind, at);

-- Encrypted responses of mutating requests, for requests with the same Idempotency-Key.
create table idempotency_keys (
	tenant_id   uuid not null references tenants,
	principal   text not null,
	key         text not null,
	fingerprint text not null,
	status      integer,
	answer      text,
	created_at  timestamptz not null,
	primary key (tenant_id, principal, key)
);
create index idempotency_keys_created on idempotency_keys (created_at);
