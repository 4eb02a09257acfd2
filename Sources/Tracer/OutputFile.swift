import Attribution
import Glibc

/// Creates the trace file: 0600, owned by the user behind sudo, never through a symbolic link, never over an existing
/// file unless told so.
enum OutputFile {
  /// Opens `path` for writing and returns the descriptor.
  static func create(_ path: String, force: Bool) throws(InputError) -> Int32 {
    var flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    var descriptor = open(path, flags, 0o600)
    if descriptor < 0, errno == EEXIST {
      var status = stat()
      guard lstat(path, &status) == 0 else { throw failure(path, errno) }
      guard status.st_mode & S_IFMT == S_IFREG else {
        throw InputError(
          file: path,
          found: status.st_mode & S_IFMT == S_IFLNK
            ? "is a symbolic link, which is not followed" : "is no regular file",
          remedy: "Choose another name with -o.")
      }
      guard force else {
        throw InputError(
          file: path, found: "exists", remedy: "Choose another name with -o, or overwrite it with --force.")
      }
      // replaced, not reused: another reader keeps the old file, and its mode and owner are not inherited
      guard unlink(path) == 0 else { throw failure(path, errno) }
      flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
      descriptor = open(path, flags, 0o600)
    }
    guard descriptor >= 0 else { throw failure(path, errno) }
    fchmod(descriptor, 0o600)
    if let owner = invokingUser, fchown(descriptor, owner.user, owner.group) != 0 {
      let reason = errno
      close(descriptor)
      unlink(path)
      throw failure(path, reason)
    }
    return descriptor
  }

  /// The user behind sudo, from the variables that sudo sets; nil when root itself runs us.
  static var invokingUser: (user: uid_t, group: gid_t)? {
    guard geteuid() == 0, let user = getenv("SUDO_UID"), let group = getenv("SUDO_GID"),
      let uid = uid_t(String(cString: user)), let gid = gid_t(String(cString: group)), uid != 0
    else { return nil }
    return (uid, gid)
  }

  /// The name of the file's owner, for the closing line.
  static var ownerName: String {
    let uid = invokingUser?.user ?? geteuid()
    if let entry = getpwuid(uid), let name = entry.pointee.pw_name { return String(cString: name) }
    return "uid \(uid)"
  }

  /// `kvmtax-20261121-091204.kvmtax`: local time, so that files sort as an admin remembers them.
  static func defaultName(at seconds: time_t = time(nil)) -> String {
    var seconds = seconds
    var parts = tm()
    localtime_r(&seconds, &parts)
    func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return "kvmtax-\(parts.tm_year + 1900)\(two(parts.tm_mon + 1))\(two(parts.tm_mday))"
      + "-\(two(parts.tm_hour))\(two(parts.tm_min))\(two(parts.tm_sec)).kvmtax"
  }

  private static func failure(_ path: String, _ code: Int32) -> InputError {
    InputError(
      file: path, found: "cannot be created: \(String(cString: strerror(code)))",
      remedy: "Choose a folder that can be written to with -o.")
  }
}
