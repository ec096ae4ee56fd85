-- What the flows of a stretch and those around it tell of addresses for the first time.
create or replace temp table addresses_new as
from (
    from addresses_told({read_from}, {read_to})
    except
    from known_addresses
);
