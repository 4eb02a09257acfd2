@main struct AnalyzerCommand { static func main() {} }
