import Testing

@Suite struct AttributionPlaceholder {}
