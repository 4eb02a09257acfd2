import Attribution
import Files
import Import
import TestSupport
import Testing

@Suite struct TimelineTests {
  @Test(arguments: Samples.names(".dat") + Samples.names(".perf.data"))
  func eachIntervalSumsToItsWallTimeAndAllOfThemToTheLedger(name: String) throws {
    let evidence = try importTrace(try MappedFile(path: Samples.path(name)))
    try expectTimelineSums(evidence)
    #expect(!evidence.timeline.ends.isEmpty)
  }
}
