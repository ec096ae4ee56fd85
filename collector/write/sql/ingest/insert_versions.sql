-- From 1.19 on every flow says which Hubble made it.
insert into node_versions
select cluster, node, version_number(emitter_version) as version, min(time) as seen_at
from {projected} as staged
where version_number(emitter_version) <> ''
    and not exists (
        from node_versions v
        where v.cluster = staged.cluster and v.node = staged.node and v.version = version_number(staged.emitter_version)
    )
group by all;
