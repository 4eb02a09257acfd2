/// Turns a report into text of some format. It does no arithmetic: what it prints is in the report.
public protocol Renderer {
  /// The whole document, ended by a newline.
  func render(_ report: Report) -> String
}
