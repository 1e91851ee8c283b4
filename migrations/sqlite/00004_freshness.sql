-- +goose Up

-- How old a verification may be, by role, and how long a person may be silent. Null:
-- for ever.
alter table instances add column owner_max_age_days integer check (owner_max_age_days > 0);
alter table instances add column customer_max_age_days integer check (customer_max_age_days > 0);
alter table instances add column silence_max_days integer check (silence_max_days > 0);

-- Why a verification is not believed any more, whether the person was told how to
-- claim again, and when they last wrote, more or less.
alter table identities add column doubted_at timestamp;
alter table identities add column doubt text check (doubt in ('expired', 'silence', 'opted_out', 'gone'));
alter table identities add column reclaim_told_at timestamp;
alter table identities add column last_heard_at timestamp;
