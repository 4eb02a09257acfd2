import Testing

@Suite struct BpfPlaceholder {}
