-- +goose Up

-- Customers are searched by prefixes of their identifiers.
create index customers_email_prefix on customers (tenant_id, lower(email));
drop index customers_phone;
create index customers_phone on customers (tenant_id, phone_number) where phone_number is not null;
create index identities_external on identities (tenant_id, lower(external_id));

-- The time since which an unknown sender is blocked. Its messages are dropped.
alter table identities add column refused_at timestamp;

-- The customer into which another one was merged. The row is kept. The data for undoing the
-- merge, the former customer and the moved identities, is deleted after 30 days.
create table customer_merges (
	customer_id text primary key,
	tenant_id   text not null references tenants,
	into_id     text not null,
	merged_at   timestamp not null,
	unique (tenant_id, customer_id)
);
create index customer_merges_into on customer_merges (tenant_id, into_id);
create index customer_merges_at on customer_merges (merged_at);

-- The columns must equal those of customers, in the same order, because whole rows are copied.
create table merged_customers as select * from customers where 0;
create unique index merged_customers_id on merged_customers (id);

create table merged_identities (
	tenant_id   text not null,
	customer_id text not null,
	identity_id text not null,
	primary key (customer_id, identity_id),
	foreign key (tenant_id, customer_id) references customer_merges (tenant_id, customer_id) on delete cascade
);

-- The owners of each address over time. The triggers below record every change of an
-- identity.
create table identity_owners (
	seq         integer primary key autoincrement,
	tenant_id   text not null references tenants,
	identity_id text not null,
	instance_id text,
	channel     text not null,
	external_id text not null,
	customer_id text not null,
	since       timestamp not null default (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
	until       timestamp,
	erased_at   timestamp
);
create index identity_owners_identity on identity_owners (tenant_id, identity_id);
create index identity_owners_address on identity_owners (tenant_id, channel, external_id);
create index identity_owners_customer on identity_owners (tenant_id, customer_id);
insert into identity_owners (tenant_id, identity_id, instance_id, channel, external_id, customer_id, since)
select tenant_id, id, instance_id, channel, external_id, customer_id, created_at from identities where customer_id is not null order by id;

-- +goose StatementBegin
create trigger identities_linked after insert on identities when new.customer_id is not null
begin
	insert into identity_owners (tenant_id, identity_id, instance_id, channel, external_id, customer_id)
	values (new.tenant_id, new.id, new.instance_id, new.channel, new.external_id, new.customer_id);
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger identities_passed after update of customer_id, channel, external_id on identities
when old.customer_id is not new.customer_id or old.channel <> new.channel or old.external_id <> new.external_id
begin
	update identity_owners set until = strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')
	where tenant_id = old.tenant_id and identity_id = old.id and until is null;
	insert into identity_owners (tenant_id, identity_id, instance_id, channel, external_id, customer_id)
	select new.tenant_id, new.id, new.instance_id, new.channel, new.external_id, new.customer_id where new.customer_id is not null;
	update identities set refused_at = null where tenant_id = new.tenant_id and id = new.id and refused_at is not null and customer_id is not null;
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger identities_unlinked after delete on identities when old.customer_id is not null
begin
	update identity_owners set until = strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')
	where tenant_id = old.tenant_id and identity_id = old.id and until is null;
end;
-- +goose StatementEnd

-- Conversations of a person are found by their chat, and those without an identity by the
-- senders of their messages.
create index conversations_place on conversations (tenant_id, channel, place_id);
create index conversations_loose on conversations (tenant_id, channel) where is_group or identity_id is null;

create index audit_events_tenant on audit_events (tenant_id, seq);
create index audit_events_kind on audit_events (tenant_id, kind, seq);
create index audit_events_customer on audit_events (tenant_id, customer_id, seq) where customer_id is not null;
create index audit_events_instance on audit_events (tenant_id, instance_id, seq) where instance_id is not null;
create index audit_events_at on audit_events (tenant_id, at);

-- The audit log is append-only. A transaction that erases a person turns the switch on, may
-- then change details, but no other column, and turns it off. Rows cannot be deleted.
create table audit_erasing (
	one     integer primary key check (one = 1),
	erasing boolean not null
);
insert into audit_erasing (one, erasing) values (1, false);
-- +goose StatementBegin
create trigger audit_events_keep before update on audit_events
when not (select erasing from audit_erasing)
	or (new.seq, new.id, new.tenant_id, new.kind, new.actor, new.customer_id, new.identity_id, new.instance_id, new.message_id, new.at)
		is not (old.seq, old.id, old.tenant_id, old.kind, old.actor, old.customer_id, old.identity_id, old.instance_id, old.message_id, old.at)
begin
	select raise(abort, 'audit_events only grows');
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger audit_events_keep_all before delete on audit_events
begin
	select raise(abort, 'audit_events only grows');
end;
-- +goose StatementEnd
-- +goose StatementBegin
create trigger audit_events_keep_place before insert on audit_events
when exists (select 1 from audit_events where id = new.id or seq = new.seq)
begin
	select raise(abort, 'audit_events only grows');
end;
-- +goose StatementEnd
