"""A second reader of trace files, written from docs/trace-format.md and nothing else.

Prints a line per thread and per row, so that a test can compare them with what the product reads.
"""
import struct
import subprocess
import sys

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 if byte & 1 else byte >> 1
    TABLE.append(byte)
WRAP = (1 << 64) - 1


def crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state = TABLE[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


class Fields:
    def __init__(self, data):
        self.data, self.at = data, 0

    def more(self):
        return self.at < len(self.data)

    def varint(self):
        value = shift = 0
        while self.more():
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value & WRAP
        return 0

    def signed(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def entry(self):
        length = self.varint()
        self.at += length
        return Fields(self.data[self.at - length:self.at])


def header_at(data, at):
    head = data[at:at + 40]
    if len(head) < 40 or head[:4] != b"KTBl" or crc32c(head[:36]) != struct.unpack("<I", head[36:])[0]:
        return None
    return struct.unpack("<HHIIQQI", head[4:36])


def next_header(data, start, end):
    at = data.find(b"KTBl", start)
    while 0 <= at < end:
        if header_at(data, at):
            return at
        at = data.find(b"KTBl", at + 1)
    return None


def blocks(data):
    at = 64
    while at < len(data):
        head = header_at(data, at)
        if not head:
            at = next_header(data, at + 1, len(data)) or len(data)
            continue
        kind, flags, stored, raw, _, schema, checksum = head
        payload = data[at + 40:at + 40 + stored]
        if len(payload) < stored:
            at = next_header(data, at + 1, len(data)) or len(data)
            continue
        end = at + 40 + (stored + 7) // 8 * 8
        if crc32c(payload) == checksum:
            if flags & 1:
                payload = subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True, check=True).stdout
                assert len(payload) == raw
            yield kind, schema, payload
        elif end < len(data) and not header_at(data, end):
            end = next_header(data, at + 1, end) or end
        at = end


def read_states(fields, mask):
    states = [0] * 12
    for bit in range(64):
        if mask >> bit & 1:
            states[bit if bit < 12 else 0] += fields.varint()
    return states


def read_thread(entry, thread, now):
    bits, mask = entry.varint(), entry.varint()
    value = {"thread": thread, "tid": entry.varint()}
    value["tgid"] = value["tid"] + entry.signed()
    value["state"] = entry.varint()
    value["since"] = now - entry.signed()
    value["exits"] = entry.varint()
    if bits & 1:
        entry.varint()
    is_open = bits >> 1 & 1
    if is_open:
        entry.varint(), entry.varint(), entry.signed()
    value["ended"] = bits >> 2 & 1
    entries = entry.signed() if bits >> 3 & 1 else 0
    finished = entry.signed() if bits >> 4 & 1 else 0
    for bit in (5, 6):
        if bits >> bit & 1:
            entry.varint()
    unpaired = entry.varint() if bits >> 7 & 1 else 0
    if bits >> 8 & 1:
        entry.varint()
    first = entry.signed() if bits >> 9 & 1 else 0
    if bits >> 10 & 1:
        entry.signed()
    for bit in (11, 12, 13, 13, 14):
        if bits >> bit & 1:
            entry.varint()
    value["entries"] = value["exits"] - unpaired - is_open + finished + entries
    value["states"] = read_states(entry, mask)
    value["first"] = value["since"] - sum(value["states"]) + first
    return value


def read_row(entry, old):
    bits, mask = entry.varint(), entry.varint()
    key = entry.varint(), entry.varint()
    row = {"finished": entry.varint(), "min": entry.varint()}
    row["max"] = row["min"] + entry.signed()
    row["histogram"] = old.get(key, {}).get("histogram", {})
    if bits & 1:
        row["histogram"], bucket = {}, -1
        for _ in range(entry.varint()):
            bucket += 1 + entry.varint()
            row["histogram"][bucket] = entry.varint()
    row["unpaired"] = entry.varint() if bits >> 1 & 1 else 0
    total = entry.varint() if bits >> 2 & 1 else None
    states = read_states(entry, mask)
    row["total"] = sum(states) if total is None else total
    old[key] = row


def read_key(entry):
    bits, mask = entry.varint(), entry.varint()
    isa, reason, kind, traits = (entry.varint() for _ in range(4))
    finished, longest = entry.varint(), entry.varint()
    subject = entry.varint() if bits >> 1 & 1 else WRAP
    size = entry.varint() if bits >> 2 & 1 else 0
    userspace = entry.varint() if bits >> 3 & 1 else 0
    total = entry.varint() if bits >> 4 & 1 else None
    states = read_states(entry, mask)
    name = None if bits & 1 else (isa, reason, kind, subject, traits, size, userspace)
    return name, (finished, sum(states) if total is None else total, longest, *states)


def record_size(text):
    return int(text.split(b"\n")[0].split()[1])


def main(path):
    data = open(path, "rb").read()
    threads, rows, keys, records = {}, {}, {}, 0
    sizes = {}
    holes, expected, last_whole, last_time = [], (0, 0), 0, 0
    for kind, schema, payload in blocks(data):
        if kind == 3:
            value = 0xCBF29CE484222325
            for byte in payload:
                value = (value ^ byte) * 0x100000001B3 & WRAP
            sizes[value] = record_size(payload)
        if kind == 7:
            # this version's records need no schema block
            records += len(payload) // sizes.get(schema, 128)
        if kind != 6:
            continue
        body = Fields(payload)
        head = body.entry()
        number, part, flags, now = head.varint(), head.varint(), head.varint(), head.varint()
        if (number, part) != expected:
            holes.append(last_whole)
        expected = (number + 1, 0) if flags & 1 else (number, part + 1)
        thread = 0
        while body.more():
            entry = body.entry()
            thread += entry.signed()
            which = entry.varint()
            if which == 1:
                threads[thread] = read_thread(entry, thread, now)
                threads[thread]["holes"] = len(holes)
            elif which == 2:
                read_row(entry, rows.setdefault(thread, {}))
            elif which == 3:
                name, value = read_key(entry)
                keys[thread, name] = value
        last_time = now
        if flags & 1:
            last_whole = now
    print("records", records)
    for thread in sorted(threads):
        value = threads[thread]
        states, end = value["states"], value["since"]
        if not value["ended"]:
            until = min([last_time] + holes[value["holes"]:value["holes"] + 1])
            until = max(until, value["since"])
            end = max(last_time, value["since"])
            states[value["state"]] += until - value["since"]
            states[0] += end - until
        print("thread", thread, value["tid"], value["tgid"], value["first"] & WRAP, end, value["exits"], value["entries"], *states)
        for (isa, reason), row in sorted(rows.get(thread, {}).items()):
            buckets = [f"{bucket}:{count}" for bucket, count in sorted(row["histogram"].items())]
            print("row", isa, reason, row["finished"], row["unpaired"], row["total"], row["min"], row["max"], *buckets)
    # a VM's keys stand under one of its threads
    named = {(threads[thread]["tgid"], *name): value for (thread, name), value in keys.items() if name and thread in threads}
    for name, value in sorted(named.items()):
        print("key", *name, *value)


main(sys.argv[1])
