-- Flows come in: what is stored tells of settled stretches, flows of the rest (as queries/model/settled.sql has it).
create or replace macro attempts_asked(since, until) as table from attempts_between(since, until);
create or replace macro connections_between(since, until) as table from connections_pieced(since, until);
create or replace macro events_asked(since, until) as table from flows where time >= since and time < until;
create or replace macro counts_asked(since, until) as table from flows_counted(since, until);
