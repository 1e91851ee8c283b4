-- +goose Up

-- The instance whose application, or whose API key, created a customer. It is null for customers of
-- the tenant. An application sees the users that its instance created, and those with an identity
-- or a conversation there.
alter table customers add column created_by_instance uuid;
alter table merged_customers add column created_by_instance uuid;
update customers set created_by_instance = (
	select e.instance_id from audit_events e
	where e.tenant_id = customers.tenant_id and e.customer_id = customers.id and e.kind = 'user.created' limit 1);
update merged_customers set created_by_instance = (
	select e.instance_id from audit_events e
	where e.tenant_id = merged_customers.tenant_id and e.customer_id = merged_customers.id
		and e.kind = 'user.created' limit 1);

-- Requests per second that a key may make; null for the default.
alter table api_keys add column rate_limit_per_second integer;

-- The names of API keys and members of staff, as the audit log shows them beside the actor. A name
-- outlives the key.
create table actor_names (
	tenant_id uuid not null references tenants,
	actor     text not null,
	name      text not null,
	primary key (tenant_id, actor)
);
insert into actor_names (tenant_id, actor, name) select tenant_id, 'key:' || cast(id as text), name from api_keys;
