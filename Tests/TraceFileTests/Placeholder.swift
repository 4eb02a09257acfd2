import Testing

@Suite struct TraceFilePlaceholder {}
