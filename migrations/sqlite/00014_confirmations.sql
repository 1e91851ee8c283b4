-- +goose Up

-- Whether a verified owner of a customer must agree before a claim verifies another account.
alter table tenants add column owner_confirmation boolean not null default false;

-- Days without a message after which an unknown sender is deleted.
alter table tenants add column unknown_sender_days integer not null default 90 check (unknown_sender_days > 0);

-- The channels on which claims and invites grant the role owner, as ",telegram,slack,". Null: all.
alter table instances add column owner_channels text;

-- Invites that staff must confirm. Opening one records the message and the identity of the sender
-- and grants nothing; confirming it sets the columns of a redemption.
alter table invites add column confirm boolean not null default false;
alter table invites add column opened_msg text;
alter table invites add column opened_at timestamp;
alter table invites add column opener_id text;
alter table invites add column conversation_id text;
alter table invites add column refused_at timestamp;

-- A claim that waits for an owner of the customer. The code is used; nothing is granted until an
-- owner repeats the number. An answer that is no longer valid violates the check, which rolls back
-- the transaction.
create table claim_requests (
	id              text primary key,
	tenant_id       text not null,
	customer_id     text not null,
	identity_id     text not null,
	instance_id     text not null,
	conversation_id text not null,
	message_id      text not null unique,
	claim_gen       integer not null,
	number          text not null,
	tries           integer not null default 0,
	fence           integer not null default 0 constraint claim_requests_fence check (fence >= 0),
	created_at      timestamp not null default (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
	expires_at      timestamp not null,
	answered_at     timestamp,
	unique (tenant_id, id),
	foreign key (tenant_id, instance_id) references instances (tenant_id, id) on delete cascade,
	foreign key (tenant_id, customer_id) references customers (tenant_id, id) on delete cascade,
	foreign key (tenant_id, identity_id) references identities (tenant_id, id) on delete cascade,
	foreign key (tenant_id, conversation_id) references conversations (tenant_id, id) on delete cascade
);
create index claim_requests_customer on claim_requests (tenant_id, customer_id);
create index claim_requests_identity on claim_requests (tenant_id, identity_id);
create index claim_requests_instance on claim_requests (tenant_id, instance_id);
create index claim_requests_conversation on claim_requests (tenant_id, conversation_id);
create index claim_requests_expires on claim_requests (expires_at);
