import Testing

@Suite struct ImportPlaceholder {}
