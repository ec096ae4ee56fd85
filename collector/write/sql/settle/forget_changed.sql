-- Forget the stretches that flows or objects came for after they were settled.
delete from stretches s
where s.first_time not in (select first_time from settled)
    or exists (
        from objects_changed c where c.first_time < moved(s.end_time, 2) and c.end_time > moved(s.first_time, -2)
    );
delete from late_flows;
delete from objects_used;
insert into objects_used from objects_of_attempts;
