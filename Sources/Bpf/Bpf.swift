// Bpf
