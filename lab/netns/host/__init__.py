"""What the one machine gives: namespaces, control groups, processes, certificates, the kernel."""
