-- +goose Up

-- Customers are searched by prefixes of their identifiers. These indexes contain all rows,
-- because the planner cannot estimate how many rows a partial one would match.
create index customers_email_prefix on customers (tenant_id, lower(email) text_pattern_ops);
drop index customers_phone;
create index customers_phone on customers (tenant_id, phone_number text_pattern_ops) where phone_number is not null;
create index identities_external on identities (tenant_id, lower(external_id) text_pattern_ops);

-- The time since which an unknown sender is blocked. Its messages are dropped.
alter table identities add column refused_at timestamptz;

-- The customer into which another one was merged. The row is kept. The data for undoing the
-- merge, the former customer and the moved identities, is deleted after 30 days.
create table customer_merges (
	customer_id uuid primary key,
	tenant_id   uuid not null references tenants,
	into_id     uuid not null,
	merged_at   timestamptz not null,
	unique (tenant_id, customer_id)
);
create index customer_merges_into on customer_merges (tenant_id, into_id);
create index customer_merges_at on customer_merges (merged_at);

-- The columns must equal those of customers, in the same order, because whole rows are copied.
create table merged_customers (like customers, primary key (id));

create table merged_identities (
	tenant_id   uuid not null,
	customer_id uuid not null,
	identity_id uuid not null,
	primary key (customer_id, identity_id),
	foreign key (tenant_id, customer_id) references customer_merges (tenant_id, customer_id) on delete cascade
);

-- The owners of each address over time. The triggers below record every change of an
-- identity.
create table identity_owners (
	seq         bigint generated always as identity primary key,
	tenant_id   uuid not null references tenants,
	identity_id uuid not null,
	instance_id uuid,
	channel     text not null,
	external_id text not null,
	customer_id uuid not null,
	since       timestamptz not null default now(),
	until       timestamptz,
	erased_at   timestamptz
);
create index identity_owners_identity on identity_owners (tenant_id, identity_id);
create index identity_owners_address on identity_owners (tenant_id, channel, external_id);
create index identity_owners_customer on identity_owners (tenant_id, customer_id);
insert into identity_owners (tenant_id, identity_id, instance_id, channel, external_id, customer_id, since)
select tenant_id, id, instance_id, channel, external_id, customer_id, created_at from identities where customer_id is not null order by id;

-- +goose StatementBegin
create function identities_owned() returns trigger language plpgsql as $$
begin
	if tg_op <> 'INSERT' then
		delete from identity_owners where tenant_id = old.tenant_id and identity_id = old.id and until is null and since >= now();
		update identity_owners set until = now() where tenant_id = old.tenant_id and identity_id = old.id and until is null;
	end if;
	if tg_op <> 'DELETE' and new.customer_id is not null then
		insert into identity_owners (tenant_id, identity_id, instance_id, channel, external_id, customer_id)
		values (new.tenant_id, new.id, new.instance_id, new.channel, new.external_id, new.customer_id);
		update identities set refused_at = null where tenant_id = new.tenant_id and id = new.id and refused_at is not null;
	end if;
	return null;
end $$;
-- +goose StatementEnd
create trigger identities_linked after insert on identities for each row
	when (new.customer_id is not null) execute function identities_owned();
create trigger identities_passed after update of customer_id, channel, external_id on identities for each row
	when ((old.customer_id, old.channel, old.external_id) is distinct from (new.customer_id, new.channel, new.external_id)) execute function identities_owned();
create trigger identities_unlinked after delete on identities for each row
	when (old.customer_id is not null) execute function identities_owned();

-- Conversations of a person are found by their chat, and those without an identity by the
-- senders of their messages.
create index conversations_place on conversations (tenant_id, channel, place_id);
create index conversations_loose on conversations (tenant_id, channel) where is_group or identity_id is null;

create index audit_events_tenant on audit_events (tenant_id, seq);
create index audit_events_kind on audit_events (tenant_id, kind, seq);
create index audit_events_customer on audit_events (tenant_id, customer_id, seq) where customer_id is not null;
create index audit_events_instance on audit_events (tenant_id, instance_id, seq) where instance_id is not null;
create index audit_events_at on audit_events (tenant_id, at);

-- The audit log is append-only. A transaction that erases a person calls
-- set_config('hydragate.erasing', 'on', true) and may then change details, but no other
-- column. Rows cannot be deleted.
-- +goose StatementBegin
create function audit_events_keep() returns trigger language plpgsql as $$
begin
	if tg_op = 'UPDATE' and current_setting('hydragate.erasing', true) = 'on' then
		if to_jsonb(new) - 'detail' = to_jsonb(old) - 'detail' then
			return new;
		end if;
	end if;
	raise exception 'audit_events only grows' using errcode = 'insufficient_privilege';
end $$;
-- +goose StatementEnd
create trigger audit_events_keep before update or delete on audit_events for each row execute function audit_events_keep();
create trigger audit_events_keep_all before truncate on audit_events for each statement execute function audit_events_keep();
