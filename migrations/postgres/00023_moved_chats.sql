-- +goose Up

-- A chat may get another ID, as a group that becomes a supergroup. It stays one conversation: moved_to of the
-- inbox queue of the other ID is that conversation, and moved_place_id of the conversation is the other ID.
-- A queue that was moved cannot become due.
alter table conversations add column moved_place_id text;
alter table lanes add column moved_to uuid constraint lanes_moved check (moved_to is null or due_at is null);
