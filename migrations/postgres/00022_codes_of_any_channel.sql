-- +goose Up

-- Whether any code or invite is live is asked for the instance, on any channel: people also write the code of
-- one channel on another.
drop index identities_live_code;
create index identities_live_code on identities (tenant_id, instance_id, claim_expires_at)
	where claim_expires_at is not null and claim_used_msg is null and claim_revoked_at is null;
drop index invites_live;
create index invites_live on invites (tenant_id, instance_id, expires_at)
	where used_msg is null and revoked_at is null;
