import Testing

@Suite struct JourneyPlaceholder {}
