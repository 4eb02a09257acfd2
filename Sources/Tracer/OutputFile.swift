import Attribution
import Glibc

/// The trace file's place: 0600, owned by the user behind sudo, never through a symbolic link, never over an existing
/// file unless told so.
///
/// Its folder is looked up once: whoever may write there cannot make a later step work elsewhere by moving it.
final class OutputFile {
  let path: String
  let descriptor: Int32
  private let folder: Int32
  private let name: String
  /// The name until `putInPlace()`, where a file is to be replaced.
  private var temporaryName: String?
  private var isClosed = false

  /// Creates the file. With `force`, an existing regular file stays what it is until `putInPlace()`.
  init(_ path: String, force: Bool) throws(InputError) {
    self.path = path
    let slash = path.lastIndex(of: "/")
    name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    let parent = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard !name.isEmpty, name != ".", name != ".." else {
      throw InputError(file: path, found: "is no name of a file", remedy: "Choose another name with -o.")
    }
    folder = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw OutputFile.failure(path, errno) }
    var descriptor = OutputFile.make(name, in: folder)
    if descriptor < 0, errno == EEXIST {
      do throws(InputError) { try OutputFile.checkReplaceable(name, in: folder, path: path, force: force) } catch {
        close(folder)
        throw error
      }
      let temporary = ".kvmtax-\(getpid())-\(monotonicNanoseconds()).partial"
      descriptor = OutputFile.make(temporary, in: folder)
      temporaryName = temporary
    }
    guard descriptor >= 0 else {
      let code = errno
      close(folder)
      throw OutputFile.failure(path, code)
    }
    self.descriptor = descriptor
    fchmod(descriptor, 0o600)
    // a file system without owners (vfat, a share that maps root) keeps ours, as the closing line says
    if let owner = OutputFile.invokingUser { _ = fchown(descriptor, owner.user, owner.group) }
  }

  deinit {
    finish()
    close(folder)
  }

  private static func make(_ name: String, in folder: Int32) -> Int32 {
    openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
  }

  private static func checkReplaceable(
    _ name: String, in folder: Int32, path: String, force: Bool
  ) throws(InputError) {
    var status = stat()
    guard fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { throw failure(path, errno) }
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
  }

  /// Replaces the existing file, if there was one: the recording has begun. Replaced, not reused: another reader keeps
  /// the old file, and its mode and owner are not inherited.
  func putInPlace() throws(InputError) {
    guard let temporary = temporaryName else { return }
    guard renameat(folder, temporary, folder, name) == 0 else { throw OutputFile.failure(path, errno) }
    temporaryName = nil
  }

  /// Takes the file away again: the recording never began.
  func discard() {
    let current = temporaryName ?? name
    guard isOurs(current, in: folder) else { return }
    unlinkat(folder, current, 0)
  }

  /// Whether the path still leads to the file, which is open: somebody may have removed or renamed it.
  var isInPlace: Bool { isOurs(path, in: AT_FDCWD) }

  private func isOurs(_ name: String, in folder: Int32) -> Bool {
    var (ours, there) = (stat(), stat())
    return fstat(descriptor, &ours) == 0 && fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0
      && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev
  }

  /// Closes the file; 0 or the errno. A network file system may find only now that it has no room.
  @discardableResult func finish() -> Int32 {
    guard !isClosed else { return 0 }
    isClosed = true
    return close(descriptor) == 0 ? 0 : errno
  }

  /// The name of the file's owner, for the closing line; while the file is open.
  var ownerName: String {
    var status = stat()
    let uid = fstat(descriptor, &status) == 0 ? status.st_uid : geteuid()
    if let entry = getpwuid(uid), let name = entry.pointee.pw_name { return String(cString: name) }
    return "uid \(uid)"
  }

  /// The user behind sudo, from the variables that sudo sets; nil when root itself runs us.
  static var invokingUser: (user: uid_t, group: gid_t)? {
    guard geteuid() == 0, let user = getenv("SUDO_UID"), let group = getenv("SUDO_GID"),
      let uid = uid_t(String(cString: user)), let gid = gid_t(String(cString: group)), uid != 0
    else { return nil }
    return (uid, gid)
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
