-- All is settled: whoever asks for attempts reads the table alone. To plan what makes them of flows would take longer.
create or replace macro attempts_asked(since, until) as table from attempts where time >= since and time < until;
