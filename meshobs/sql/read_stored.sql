-- All is settled: whoever asks reads what is stored alone. To plan what makes it of flows would take longer.
create or replace macro attempts_asked(since, until) as table from attempts where time >= since and time < until;
create or replace macro connections_between(since, until) as table from connections_made('attempts_stored', since, until);
create or replace macro events_asked(since, until) as table from events where time >= since and time < until;
create or replace macro counts_asked(since, until) as table from counts_between(since, until);
