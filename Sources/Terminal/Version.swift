/// The release, as both programs print it and as trace files carry it.
public let kvmtaxVersion = "0.1.0"
