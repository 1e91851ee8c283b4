-- +goose Up

-- Senders that have written before the time of their last message was stored get the whole period.
-- An identity that was only created with the API has no last message, and is kept.
update identities set last_heard_at = strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')
where customer_id is null and last_heard_at is null and (
	exists (select 1 from conversations c where c.tenant_id = identities.tenant_id and c.identity_id = identities.id)
	or (tenant_id, instance_id, channel, external_id) in (
		select m.tenant_id, m.instance_id, m.channel, m.sender_id from messages m));

create index identities_unknown_heard on identities (last_heard_at) where customer_id is null;

-- The gateways that use this database, each with the ID of the store that holds its claim codes.
create table replicas (
	holder     text primary key,
	code_store text not null,
	started_at timestamp not null default (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
	seen_at    timestamp not null default (strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))
);
