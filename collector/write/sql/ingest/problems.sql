-- The first flows of the batch that cannot be stored, and why.
select position, problem from staged where problem is not null order by position limit $kept;
