-- Flows come in: attempts are those that are stored and those of the rest (as queries/model/settled.sql has it).
create or replace macro attempts_asked(since, until) as table from attempts_between(since, until);
