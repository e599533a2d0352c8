-- SPDX-License-Identifier: BSD-2-Clause
-- Wireshark dissector for dcPIM, wire format version 1 (docs/dcpim-wire.md, which also documents the filters).
--   tshark -X lua_script:tools/wireshark/rackwire_dcpim.lua -r capture.pcap

local dcpim = Proto("dcpim", "dcPIM transport protocol")

local COMMON_LEN, MAX_BLOCKS, MIN_PACKET, MAX_PACKET = 28, 56, 256, 65507
local MAX_CHANNELS, EPOCH_MIN, EPOCH_MAX = 16, 1000, 4000000000
local TCP_ACK = 0x10
local UNSIGNED32 = 2 ^ 32
local LIMIT_HIGH = 0x40000000 -- upper half of 2^62
local SHOWN_PACKETS = 3 -- of a datagram with several, in the info column

local F_REFLECTED, F_PROMPT, F_CRC, F_HOST, F_PROBE, F_MORE = 1, 2, 4, 8, 16, 32
local F_KNOWN = 63

-- What follows the common header, by shape: { at, bytes, field }.
local shapes = {
  data = { len = 40, payload = true, { 28, 4, "offset_hi" }, { 32, 4, "ahead" }, { 36, 4, "ack" } },
  data_msg = { len = 44, payload = true, { 28, 8, "msg_id" }, { 36, 4, "size" }, { 40, 4, "ack" } },
  token = {
    len = 56, blocks = true,
    { 28, 8, "rcv_nxt" }, { 36, 8, "token_nxt" }, { 44, 8, "wnd_edge" }, { 52, 4, "rtx_end" },
  },
  token_msg = {
    len = 48, blocks = true,
    { 28, 8, "msg_id" }, { 36, 4, "rcv_nxt" }, { 40, 4, "token_nxt" }, { 44, 4, "rtx_end" },
  },
  syn = {
    len = 52,
    { 28, 4, "flow_tag" }, { 32, 4, "host_tag" }, { 36, 2, "host_port" }, { 38, 2, "max_packet" },
    { 40, 4, "wnd" }, { 44, 4, "unsched" }, { 48, 4, "max_msg" },
  },
  match = {
    len = 56,
    { 28, 8, "epoch" }, { 36, 1, "round" }, { 37, 1, "channels" }, { 38, 2, "zero" }, { 40, 4, "remaining" },
    { 44, 4, "start_in" }, { 48, 4, "phase" }, { 52, 4, "epoch_len" },
  },
  demand = { len = 44, { 28, 8, "end" }, { 36, 8, "sent" } },
  notification_msg = { len = 44, { 28, 8, "msg_id" }, { 36, 4, "size" }, { 40, 4, "sent" } },
  fin_msg = { len = 44, blocks = true, { 28, 8, "cum" }, { 36, 8, "credit" } },
  fin = { len = 36, { 28, 8, "final_offset" } },
  bare = { len = 28 },
}

local types = {
  [0x20] = { "DATA", shapes.data },
  [0x21] = { "TOKEN", shapes.token },
  [0x22] = { "TOKEN_MSG", shapes.token_msg },
  [0x23] = { "NOTIFICATION_LONG", shapes.syn },
  [0x24] = { "NOTIFICATION_SHORT", shapes.syn },
  [0x25] = { "ACK", shapes.token },
  [0x26] = { "RTS", shapes.match },
  [0x27] = { "GRANT", shapes.match },
  [0x28] = { "ACCEPT", shapes.match },
  [0x29] = { "FIN", shapes.fin },
  [0x2a] = { "SYN_ACK", shapes.syn },
  [0x2b] = { "FIN_ACK", shapes.bare },
  [0x2c] = { "NOTIFICATION_MSG", shapes.notification_msg },
  [0x2d] = { "DATA_MSG", shapes.data_msg },
  [0x2e] = { "FIN_MSG", shapes.fin_msg },
  [0x32] = { "RESET", shapes.bare },
  [0x33] = { "REVOKE", shapes.match },
  [0x34] = { "KEEPALIVE", shapes.bare },
  [0x35] = { "KEEPALIVE_ACK", shapes.bare },
  [0x36] = { "DEMAND", shapes.demand },
}

local type_names = {}
for code, entry in pairs(types) do
  type_names[code] = entry[1]
end

local function u8(name, label, display, strings)
  return ProtoField.uint8("dcpim." .. name, label, display or base.DEC, strings)
end
local function u16(name, label, display)
  return ProtoField.uint16("dcpim." .. name, label, display or base.DEC)
end
local function u32(name, label, display)
  return ProtoField.uint32("dcpim." .. name, label, display or base.DEC)
end
-- Also for what is 32 bits wide in one type and 64 in another.
local function u64(name, label)
  return ProtoField.uint64("dcpim." .. name, label, base.DEC)
end
local function flag(name, label, bit)
  return ProtoField.bool("dcpim.flags." .. name, label, 8, nil, bit)
end

local f = {
  sport = u16("sport", "Source port"),
  dport = u16("dport", "Destination port"),
  port = u16("port", "Source or destination port"),
  seq = u32("seq", "Sequence"),
  tag = u32("tag", "Tag", base.HEX),
  doff = u8("doff", "Data offset", base.HEX),
  tcp_flags = u8("tcp_flags", "TCP flags", base.HEX),
  type = u8("type", "Type", base.HEX, type_names),
  version = u8("version", "Version"),
  check = u16("check", "Header checksum", base.HEX),
  len = u16("len", "Packet length"),
  crc = u32("crc", "CRC32C", base.HEX),
  flags = u8("flags", "Flags", base.HEX),
  nblocks = u8("nblocks", "Number of blocks"),
  reserved = u16("reserved", "Reserved", base.HEX),
  offset_hi = u32("offset_hi", "Offset, upper half"),
  ahead = u32("ahead", "Bytes the sender has from here on"),
  ack = u32("ack", "Acknowledged, lower half"),
  msg_id = u64("msg_id", "Message id"),
  size = u32("size", "Message size"),
  rcv_nxt = u64("rcv_nxt", "Received up to"),
  token_nxt = u64("token_nxt", "Tokens up to"),
  wnd_edge = u64("wnd_edge", "Window up to"),
  rtx_end = u32("rtx_end", "Send holes again below (relative)"),
  flow_tag = u32("flow_tag", "Flow tag", base.HEX),
  host_tag = u32("host_tag", "Host tag", base.HEX),
  host_port = u16("host_port", "Host port"),
  max_packet = u16("max_packet", "Largest packet"),
  wnd = u32("wnd", "Window"),
  unsched = u32("unsched", "Unscheduled bytes at a time"),
  max_msg = u32("max_msg", "Largest message"),
  epoch = u64("epoch", "Receiver's epoch"),
  round = u8("round", "Round"),
  channels = u8("channels", "Channels"),
  zero = u16("zero", "Reserved", base.HEX),
  remaining = u32("remaining", "Bytes of the smallest waiting transfer"),
  start_in = u32("start_in", "Data phase begins in (ns)"),
  phase = u32("phase", "Time since own epoch began (ns)"),
  epoch_len = u32("epoch_len", "Epoch length (ns)"),
  ["end"] = u64("end", "Written up to"),
  sent = u64("sent", "Sent up to"),
  cum = u64("cum", "Messages received below id"),
  credit = u64("credit", "Credit"),
  final_offset = u64("final_offset", "Stream ends at"),
  block_start = u32("block.start", "Start (relative)"),
  block_end = u32("block.end", "End (relative)"),
  type_name = ProtoField.string("dcpim.type_name", "Type name"),
  hdr_len = u16("hdr_len", "Header length"),
  offset = u64("offset", "Offset"),
  payload = ProtoField.bytes("dcpim.payload", "Payload"),
  payload_len = u16("payload_len", "Payload length"),
  check_status = ProtoField.string("dcpim.check.status", "Header checksum status"),
  crc_status = ProtoField.string("dcpim.crc.status", "CRC32C status"),
  flag_reflected = flag("reflected", "Reflected tag", F_REFLECTED),
  flag_prompt = flag("prompt", "Prompt", F_PROMPT),
  flag_crc = flag("crc", "CRC present", F_CRC),
  flag_host = flag("host", "Between hosts", F_HOST),
  flag_probe = flag("probe", "Probe", F_PROBE),
  flag_more = flag("more", "More to come", F_MORE),
}
for _, field in pairs(f) do
  table.insert(dcpim.fields, field)
end

local malformed = ProtoExpert.new("dcpim.malformed", "Malformed packet", expert.group.MALFORMED,
  expert.severity.ERROR)
local checksum_bad = ProtoExpert.new("dcpim.checksum_bad", "Wrong checksum", expert.group.CHECKSUM,
  expert.severity.ERROR)
dcpim.experts = { malformed, checksum_bad }

dcpim.prefs.udp_ports = Pref.range("UDP ports", "4000",
  "Ports whose datagrams are dcPIM, even damaged ones (on others they are recognised)", 65535)

-- Sum and CRC over Lua strings; header and packet are counted from their first byte.

local function header_sum(header)
  local sum = 0
  for i = 1, #header - 1, 2 do
    if i ~= 17 and i ~= 21 and i ~= 23 then -- check, crc
      local high, low = header:byte(i, i + 1)
      sum = sum + high * 256 + low
    end
  end
  while sum > 0xffff do
    sum = sum % 0x10000 + math.floor(sum / 0x10000)
  end
  return 0xffff - sum
end

local bits = bit32 or bit
local bxor, band, rshift = bits.bxor, bits.band, bits.rshift
local crc_table = {}
for n = 0, 255 do
  local c = n
  for _ = 1, 8 do
    c = c % 2 == 1 and bxor(rshift(c, 1), 0x82f63b78) or rshift(c, 1)
  end
  crc_table[n] = c
end

local function crc32c(packet)
  local crc = 0xffffffff
  for i = 1, #packet do
    local byte = (i >= 21 and i <= 24) and 0 or packet:byte(i)
    crc = bxor(rshift(crc, 8), crc_table[band(bxor(crc, byte), 0xff)])
  end
  return bxor(crc, 0xffffffff) % UNSIGNED32
end

-- What a header says before anything of it is believed.
local function peek(tvb)
  local entry = types[tvb(14, 1):uint()]
  local shape = entry and entry[2]
  local nblocks = tvb(25, 1):uint()
  return {
    name = entry and entry[1],
    shape = shape,
    len = tvb(18, 2):uint(),
    nblocks = nblocks,
    hdr_len = shape and shape.len + (shape.blocks and nblocks * 8 or 0),
  }
end

-- Whether a datagram on a port nobody told us about begins with a packet.
local function looks_like_dcpim(tvb)
  if tvb:len() < COMMON_LEN or tvb(15, 1):uint() ~= 1 or tvb(13, 1):uint() ~= TCP_ACK then
    return false
  end
  local head = peek(tvb)
  return head.shape ~= nil and tvb(12, 1):uint() == head.shape.len * 4 and head.nblocks <= MAX_BLOCKS
    and head.hdr_len <= head.len and head.len <= tvb:reported_len() and head.hdr_len <= tvb:len()
    and header_sum(tvb:raw(0, head.hdr_len)) == tvb(16, 2):uint()
end

-- Values of a type's own fields: numbers, or UInt64 where the field is eight bytes.
local function body_values(tvb, shape)
  local v = {}
  for _, row in ipairs(shape) do
    v[row[3]] = row[2] == 8 and tvb(row[1], 8):uint64() or tvb(row[1], row[2]):uint()
  end
  return v
end

local function too_high(value)
  return value:higher() >= LIMIT_HIGH
end

local function is_zero(value)
  return value:higher() == 0 and value:lower() == 0
end

-- Calls broken(text) for every rule of the document that the type's own part breaks.
local function check_body(name, v, seq, payload, broken)
  for _, field in ipairs({ "rcv_nxt", "token_nxt", "wnd_edge", "end", "cum", "credit", "final_offset", "msg_id" }) do
    if type(v[field]) == "userdata" and too_high(v[field]) then
      broken(field .. " is not below 2^62")
    end
  end
  if v.msg_id and is_zero(v.msg_id) then
    broken("message id is zero")
  end
  if name == "DATA" then
    if payload == 0 then
      broken("DATA without payload")
    end
    if v.offset_hi >= LIMIT_HIGH or too_high(UInt64.new(seq, v.offset_hi) + UInt64.new(payload, 0)) then
      broken("payload does not end below 2^62")
    end
  elseif name == "DATA_MSG" then
    if payload == 0 and v.size > 0 then
      broken("DATA_MSG without payload")
    end
    if seq + payload > v.size then
      broken("payload reaches beyond the message's size")
    end
  elseif name == "TOKEN_MSG" then
    if v.rcv_nxt + v.rtx_end >= UNSIGNED32 then
      broken("rcv_nxt + rtx_end is above 2^32 - 1")
    end
  elseif name == "DEMAND" or name == "NOTIFICATION_MSG" then
    if v.sent > (v["end"] or v.size) then
      broken("more was sent than there is")
    end
  elseif v.flow_tag then
    if v.flow_tag == 0 then
      broken("flow tag is zero")
    end
    if v.host_tag == 0 then
      broken("host tag is zero")
    end
    if v.max_packet < MIN_PACKET or v.max_packet > MAX_PACKET then
      broken("max_packet is not within 256 to 65507")
    end
  elseif v.epoch then
    if v.zero ~= 0 then
      broken("reserved bits are set")
    end
    if v.channels > MAX_CHANNELS then
      broken("more than 16 channels")
    end
    if v.epoch_len < EPOCH_MIN or v.epoch_len > EPOCH_MAX then
      broken("epoch_len is not within 1000 to 4000000000")
    end
    if v.start_in > 2 * v.epoch_len then
      broken("start_in is more than two epochs")
    end
    if v.phase > 2 * v.epoch_len then
      broken("phase is more than two epochs")
    end
  end
end

-- The same for the common header.
local function check_common(tvb, head, total, broken)
  local flags, tag, seq = tvb(24, 1):uint(), tvb(8, 4):uint(), tvb(4, 4):uint()
  if tvb(12, 1):uint() ~= head.shape.len * 4 then
    broken("doff is not the header length of " .. head.name)
  end
  if tvb(13, 1):uint() ~= TCP_ACK then
    broken("tcp_flags is not 0x10")
  end
  if head.len ~= total or total > MAX_PACKET then
    broken(("len is %d, the packet has %d bytes"):format(head.len, total))
  end
  if head.nblocks > (head.shape.blocks and MAX_BLOCKS or 0) then
    broken(("%d blocks, more than %s may have"):format(head.nblocks, head.name))
  end
  if head.hdr_len > total then
    broken(("header of %d bytes in a packet of %d"):format(head.hdr_len, total))
  elseif total > head.hdr_len and not head.shape.payload then
    broken(("%d bytes after a header without payload"):format(total - head.hdr_len))
  end
  if flags > F_KNOWN then
    broken("unknown flag")
  end
  if band(flags, F_REFLECTED) ~= 0 and head.name ~= "RESET" then
    broken("reflected flag on a type other than RESET")
  end
  if tvb(26, 2):uint() ~= 0 then
    broken("reserved bits are set")
  end
  if band(flags, F_CRC) == 0 and tvb(20, 4):uint() ~= 0 then
    broken("crc without its flag")
  end
  if seq ~= 0 and not head.shape.payload then
    broken("seq on a type without offset")
  end
  if tag == 0 and head.name ~= "NOTIFICATION_LONG" and head.name ~= "NOTIFICATION_SHORT" then
    broken("tag is zero")
  end
end

local function add_common(tree, tvb)
  local function add(field, at, n)
    return tree:add(f[field], tvb(at, n))
  end
  add("sport", 0, 2)
  add("dport", 2, 2)
  add("port", 0, 2):set_hidden()
  add("port", 2, 2):set_hidden()
  add("seq", 4, 4)
  add("tag", 8, 4)
  add("doff", 12, 1):append_text((" (%d bytes)"):format(math.floor(tvb(12, 1):uint() / 16) * 4))
  add("tcp_flags", 13, 1)
  add("type", 14, 1)
  tree:add(f.type_name, tvb(14, 1), type_names[tvb(14, 1):uint()] or "?"):set_generated()
  add("version", 15, 1)
  add("check", 16, 2)
  add("len", 18, 2)
  add("crc", 20, 4)
  local flags = add("flags", 24, 1)
  for _, name in ipairs({ "flag_reflected", "flag_prompt", "flag_crc", "flag_host", "flag_probe", "flag_more" }) do
    flags:add(f[name], tvb(24, 1))
  end
  add("nblocks", 25, 1)
  add("reserved", 26, 2)
end

-- Shows the blocks that the capture holds and checks their order.
local function add_blocks(tree, tvb, head, values, broken)
  local base_value = values.rcv_nxt or values.cum
  if type(base_value) == "number" then
    base_value = UInt64.new(base_value, 0)
  end
  local edge = 0
  for i = 1, head.nblocks do
    local at = head.shape.len + 8 * (i - 1)
    if at + 8 > tvb:len() then
      return
    end
    local first, last = tvb(at, 4):uint(), tvb(at + 4, 4):uint()
    local absolute = ("Block %d: %s to %s"):format(i, tostring(base_value + UInt64.new(first, 0)),
      tostring(base_value + UInt64.new(last, 0)))
    local block = tree:add(dcpim, tvb(at, 8), absolute)
    block:add(f.block_start, tvb(at, 4))
    block:add(f.block_end, tvb(at + 4, 4))
    if last <= first then
      broken(("block %d is empty or reversed"):format(i))
    elseif first < edge then
      broken(("block %d begins before the one before it ends"):format(i))
    end
    edge = last
  end
  if head.name == "TOKEN_MSG" and head.nblocks > 0 and values.rcv_nxt + edge >= UNSIGNED32 then
    broken("the last block ends above 2^32 - 1")
  end
end

-- Header sum and CRC, as far as the capture has what they cover. Returns false when one is wrong.
local function add_status(tree, tvb, head, total)
  local right = true
  local function status(field, range, text)
    tree:add(f[field], range, text):set_generated()
    right = right and text ~= "bad"
  end
  if head.hdr_len > tvb:len() then
    status("check_status", tvb(16, 2), "unverified")
  else
    local want = header_sum(tvb:raw(0, head.hdr_len))
    local good = want == tvb(16, 2):uint()
    status("check_status", tvb(16, 2), good and "good" or "bad")
    if not good then
      tree:add_proto_expert_info(checksum_bad, ("Header checksum should be 0x%04x"):format(want))
    end
  end
  if band(tvb(24, 1):uint(), F_CRC) == 0 then
    status("crc_status", tvb(20, 4), "absent")
  elseif tvb:len() < total or head.len ~= total then
    status("crc_status", tvb(20, 4), "unverified")
  else
    local want = crc32c(tvb:raw(0, total))
    local good = want == tvb(20, 4):uint()
    status("crc_status", tvb(20, 4), good and "good" or "bad")
    if not good then
      tree:add_proto_expert_info(checksum_bad, ("CRC32C should be 0x%08x"):format(want))
    end
  end
  return right
end

local function info_of(tvb, head, v, payload)
  local parts = { ("%s %d → %d"):format(head.name, tvb(0, 2):uint(), tvb(2, 2):uint()) }
  local function say(name, value)
    table.insert(parts, name .. "=" .. tostring(value))
  end
  local function say_all(...)
    for _, name in ipairs({ ... }) do
      say(name, v[name])
    end
  end
  if head.name == "DATA" then
    say("offset", UInt64.new(tvb(4, 4):uint(), v.offset_hi))
    say_all("ahead")
  elseif head.name == "DATA_MSG" then
    say_all("msg_id")
    say("offset", tvb(4, 4):uint())
    say_all("size")
  elseif head.shape == shapes.token or head.shape == shapes.token_msg then
    if v.msg_id then
      say_all("msg_id")
    end
    say_all("rcv_nxt", "token_nxt")
    if v.rtx_end > 0 then
      say_all("rtx_end")
    end
  elseif head.shape == shapes.syn then
    say("flow_tag", ("0x%08x"):format(v.flow_tag))
    say_all("wnd")
  elseif head.shape == shapes.match then
    say_all("epoch", "round", "channels")
  else
    for _, row in ipairs(head.shape) do
      say_all(row[3])
    end
  end
  if head.nblocks > 0 and head.shape.blocks then
    say("blocks", head.nblocks)
  end
  local flags = tvb(24, 1):uint()
  local shown = {
    { F_REFLECTED, "reflected" }, { F_PROMPT, "prompt" }, { F_HOST, "host" }, { F_PROBE, "probe" }, { F_MORE, "more" },
  }
  for _, named in ipairs(shown) do
    if band(flags, named[1]) ~= 0 then
      table.insert(parts, "[" .. named[2] .. "]")
    end
  end
  if head.shape.payload then
    say("len", payload)
  end
  return table.concat(parts, " ")
end

-- One packet of `total` bytes, of which tvb holds those that were captured. Returns its text for the info column.
local function dissect_packet(tvb, total, root)
  local tree = root:add(dcpim, tvb())
  local wrong
  local right_sums = true
  local function broken(text)
    wrong = wrong or text
    tree:add_proto_expert_info(malformed, text)
  end
  local function info(text)
    return text .. (right_sums and "" or " [wrong checksum]") ..
      (wrong and (" [malformed: %s]"):format(wrong) or "")
  end

  if total < COMMON_LEN then
    broken(("%d bytes are no dcPIM header"):format(total))
    return info("dcPIM")
  end
  if tvb:len() < COMMON_LEN then
    return "dcPIM [cut short by the capture]"
  end
  local version = tvb(15, 1):uint()
  if version ~= 1 then
    tree:add(f.version, tvb(15, 1))
    broken(("version %d is not known"):format(version))
    return info("dcPIM")
  end
  add_common(tree, tvb)
  local head = peek(tvb)
  if not head.shape then
    broken(("type 0x%02x is not known"):format(tvb(14, 1):uint()))
    return info("dcPIM")
  end
  tree:append_text((", %s, %d → %d"):format(head.name, tvb(0, 2):uint(), tvb(2, 2):uint()))
  tree:add(f.hdr_len, tvb(25, 1), head.hdr_len):set_generated()
  check_common(tvb, head, total, broken)
  right_sums = add_status(tree, tvb, head, total)
  if tvb:len() < head.shape.len then
    return info(head.name .. (total > tvb:len() and " [cut short by the capture]" or ""))
  end

  local values, seq = body_values(tvb, head.shape), tvb(4, 4):uint()
  for _, row in ipairs(head.shape) do
    tree:add(f[row[3]], tvb(row[1], row[2]))
  end
  if head.name == "DATA" then
    tree:add(f.offset, tvb(28, 4), UInt64.new(seq, values.offset_hi)):set_generated()
  elseif head.name == "DATA_MSG" then
    tree:add(f.offset, tvb(4, 4), UInt64.new(seq, 0)):set_generated()
  end
  local payload = math.max(total - head.hdr_len, 0)
  check_body(head.name, values, seq, payload, broken)
  if head.shape.blocks then
    add_blocks(tree, tvb, head, values, broken)
  end
  if head.shape.payload then
    tree:add(f.payload_len, tvb(18, 2), payload):set_generated()
    if tvb:len() > head.hdr_len then
      tree:add(f.payload, tvb(head.hdr_len))
    end
  end
  return info(info_of(tvb, head, values, payload))
end

function dcpim.dissector(tvb, pinfo, root)
  if tvb:len() == 0 then
    return 0
  end
  pinfo.cols.protocol = "dcPIM"
  local total, at, packets, infos = tvb:reported_len(), 0, 0, {}
  repeat
    -- Segmentation offload leaves several packets in one captured datagram: the next begins where len ends.
    local left = total - at
    local size = left
    if tvb:len() - at >= COMMON_LEN and tvb(at + 15, 1):uint() == 1 then
      local len = tvb(at + 18, 2):uint()
      if len >= COMMON_LEN and left - len >= COMMON_LEN then
        size = len
      end
    end
    local captured = math.min(size, tvb:len() - at)
    local text = dissect_packet(tvb(at, captured):tvb(), size, root)
    packets = packets + 1
    if packets <= SHOWN_PACKETS then
      table.insert(infos, text)
    end
    at = at + size
  until at >= total or at >= tvb:len()
  if packets > SHOWN_PACKETS then
    table.insert(infos, ("… %d packets"):format(packets))
  end
  pinfo.cols.info = table.concat(infos, " | ")
  return tvb:len()
end

dcpim:register_heuristic("udp", function(tvb, pinfo, root)
  if not looks_like_dcpim(tvb) then
    return false
  end
  pinfo.conversation = dcpim -- so that damaged packets of the same two ports are shown as such
  dcpim.dissector(tvb, pinfo, root)
  return true
end)

DissectorTable.get("ip.proto"):add(254, dcpim)

local udp_ports
local function register_ports()
  local table_of_ports = DissectorTable.get("udp.port")
  if udp_ports and udp_ports ~= "" then
    table_of_ports:remove(udp_ports, dcpim)
  end
  udp_ports = dcpim.prefs.udp_ports
  if udp_ports ~= "" then
    table_of_ports:add(udp_ports, dcpim)
  end
end
dcpim.prefs_changed = register_ports
register_ports()
