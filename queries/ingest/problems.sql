-- The first messages of the batch that cannot be stored, and why.
select position, 'not a Hubble message' as problem from messages where kind = 'broken'
union all
select position, problem from staged where problem is not null
order by position
limit $kept;
