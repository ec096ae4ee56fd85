-- How many attempts a stretch has.
select attempts from stretches where first_time = {first};
