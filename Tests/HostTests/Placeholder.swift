import Testing

@Suite struct HostPlaceholder {}
