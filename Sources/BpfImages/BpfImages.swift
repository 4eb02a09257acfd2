// Filled by the plugin BpfCompile: one constant per BPF/*.bpf.c.
