@main struct TracerCommand { static func main() {} }
