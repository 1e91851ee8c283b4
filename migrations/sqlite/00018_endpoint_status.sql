-- +goose Up

-- What providers say about endpoints. check_at is when the provider is asked next, and checked_at when
-- it was asked last. The status of an endpoint is error if the last check or its poller reports a
-- fault. repaired_at is when the gateway
-- last corrected the set-up at the provider by itself. warnings is a JSON array of texts for staff.
alter table endpoints add column check_at timestamp not null default '1970-01-01 00:00:00+00:00';
alter table endpoints add column checked_at timestamp;
alter table endpoints add column check_failures integer not null default 0;
alter table endpoints add column check_fault text;
alter table endpoints add column poll_fault text;
alter table endpoints add column repaired_at timestamp;
alter table endpoints add column warnings text not null default '[]';
create index endpoints_check on endpoints (check_at);

-- The latest notice of each kind about an endpoint, such as the last webhook request that was rejected.
create table endpoint_notices (
	endpoint_id text not null references endpoints on delete cascade,
	tenant_id   text not null,
	kind        text not null,
	reason      text not null,
	detail      text not null,
	at          timestamp not null,
	primary key (endpoint_id, kind)
);
