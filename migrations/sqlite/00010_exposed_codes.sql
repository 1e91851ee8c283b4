-- +goose Up

-- Whether any code or invite can be redeemed at an instance is read with each message.
create index identities_live_code on identities (tenant_id, channel, instance_id, claim_expires_at)
	where claim_expires_at is not null and claim_used_msg is null and claim_revoked_at is null;
create index invites_live on invites (tenant_id, instance_id, channel, expires_at)
	where used_msg is null and revoked_at is null;

-- Failures are counted for a sender in all instances of the tenant. Messages with letters that could be
-- a code, but are none, are counted separately: kind is 'failure', 'bare' or 'text'.
alter table claim_failures add column kind text not null default 'failure';
drop index claim_failures_sender;
create index claim_failures_sender on claim_failures (tenant_id, channel, sender_id, at);
