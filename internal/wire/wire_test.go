package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"shoal/internal/content"

	"github.com/google/go-cmp/cmp"
)

func fill[T ~[32]byte](b byte) (out T) {
	for i := range out {
		out[i] = b
	}
	return out
}

var (
	someID   = fill[content.ID](0xa1)
	somePeer = fill[PeerID](0xb2)
	seven    = uint32(7)
)

// examples has one message of each type, and more where a type has several forms.
var examples = []Message{
	&Hello{Version: 1, Agent: "shoal/1", Name: "node17", Instance: 0x0102030405060708, Port: 50002, Requests: 64},
	&Hello{Version: 1, Instance: 1, Age: 12000},
	&Hello{Version: 1, Instance: 1, Site: "berlin"},
	&Use{},
	&Ping{Number: 3},
	&Pong{Number: 3},
	&Bye{Reason: ReasonDuplicate, Text: "there is an older one"},
	&Open{Channel: 1, ID: someID},
	&Info{Channel: 1, Size: 70000, Known: true, Epoch: 1, All: true},
	&Info{Channel: 1, Epoch: 1},
	&Refuse{Channel: 1, Reason: ReasonUnknown},
	&Manifest{Channel: 1, Offset: 49152},
	&Part{Channel: 1, Offset: 0, Total: 3, Bytes: []byte{1, 2, 3}},
	&Have{Channel: 1, Epoch: 1, First: 8, Bitmap: []byte{0xa0}, More: true},
	&Have{Channel: 1, Epoch: 1, First: 8, Runs: []uint32{0, 3, 5, 1}},
	&Have{Channel: 1, Epoch: 1, First: 8, Runs: []uint32{0, 1}, Begun: true},
	&Have{Channel: 1, Epoch: 1, First: 8, Runs: []uint32{0, 1}, Lost: true},
	&Reset{Channel: 1, Epoch: 2},
	&Want{Channel: 1, On: true},
	&Want{Channel: 1, On: true, Later: true},
	&Want{Channel: 1, On: true, Neighbours: 40},
	&Credit{Channel: 1, Epoch: 1, Number: 9, Piece: &seven},
	&Credit{Channel: 1, Epoch: 1, Number: 10},
	&Credit{Channel: 1, Epoch: 1, Number: 11, Insist: true},
	&Get{Channel: 1, Epoch: 1, Credit: 9, Request: 4, Piece: 7},
	&Get{Channel: 1, Epoch: 1, Credit: 9, Request: 5, Piece: 7, Proof: true},
	&Proof{Request: 5, Parts: bytes.Repeat([]byte{0xc3}, 64)},
	&Pass{Channel: 1, Credit: 10},
	&Pass{Channel: 1, Credit: 11, Later: true},
	&Cancel{Request: 4},
	&End{Request: 4, Reason: ReasonOK},
	&Close{Channel: 1, Reason: ReasonClosing},
	&Spare{Channel: 1},
	&Claim{Channel: 1, Pieces: []uint32{3, 7}},
	&Seek{Query: 1, Name: "big.img"},
	&Seek{Query: 2, Prefix: content.ID{0xa1, 0xa1, 0xa1, 0xa1}, Bits: 32},
	&Seek{Query: 3, After: []byte{1}},
	&Here{Query: 1, Entries: []Entry{{
		Name: "big.img", ID: someID, Size: 70000, Holders: 1, Seeds: 1, By: somePeer,
		Record: &Record{Name: "big.img", ID: someID, Size: 70000, Chain: [][]byte{{1}, {2}}, Sig: []byte{3}},
	}}, More: []byte{1}},
	&Enter{Addrs: []string{"10.0.0.5:50002", "[fd00::2]:50002"}, Removals: [][]byte{{1}}},
	&Offer{Record: Record{Name: "big.img", ID: someID, Size: 70000, Chain: [][]byte{{1}, {2}}, Sig: []byte{3}}},
	&Offer{Record: Record{Name: "photos", ID: someID, Size: 70000, Chain: [][]byte{{1}, {2}}, Sig: []byte{3}, Kind: KindDirectory}},
	&Hold{ID: someID, Size: 70000, All: true},
	&Retract{ID: someID},
	&Find{Query: 1, Name: "big.img"},
	&Find{Query: 2, Prefix: content.ID{0xa1, 0xa1, 0xa1, 0xa1}, Bits: 32, After: []byte{1}},
	&List{Query: 3},
	&Found{Query: 1, Entries: []Entry{{
		Name: "big.img", ID: someID, Size: 70000, Holders: 3, Seeds: 1, Age: 60, By: somePeer, ByName: "node17",
	}}, More: []byte{1}},
	&Found{Query: 3, Entries: []Entry{{
		Name: "photos", ID: someID, Size: 70000, Holders: 1, Seeds: 1, Age: 60, By: somePeer, Kind: KindDirectory,
	}}},
	&Follow{ID: someID, On: true},
	&Peers{
		ID: someID, Snapshot: true, Added: []PeerAddr{{ID: somePeer, Instance: 5, Addrs: []string{"10.0.0.5:50002"}}},
		Gone: []PeerAddr{{ID: somePeer, Instance: 6}}, Total: 1,
	},
	&Removed{Statements: [][]byte{{1, 2}}},
	&Leave{},
	&Who{Query: 4, All: true},
	&There{Query: 4, Members: []Member{{ID: somePeer, Name: "node17", Role: "member", Addrs: []string{"10.0.0.5:50002"}, Online: true, Joined: 1}}},
	&Failed{Query: 4, Reason: ReasonLimit, Text: "too many"},
	&Reach{Query: 5},
	&Reached{Query: 5, Way: WaySilent, Addr: "10.0.0.21:50002", From: "10.0.0.21:40312", Now: 1764000000000},
}

const goldenFile = "testdata/messages.txt"

// golden reads the file of examples: lines of a type's name and the hex of a whole frame.
func golden(t testing.TB) (frames [][]byte) {
	t.Helper()
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		_, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		frame, err := hex.DecodeString(strings.TrimSpace(digits))
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	return frames
}

func TestEachMessageHasItsBytes(t *testing.T) {
	if os.Getenv("SHOAL_WRITE_GOLDEN") != "" {
		var b strings.Builder
		b.WriteString("# One whole frame a line: the message's name and its bytes in hex. Each must parse, and encode to the same bytes.\n")
		for _, m := range examples {
			b.WriteString(strings.TrimPrefix(reflect.TypeOf(m).String(), "*wire.") + " " + hex.EncodeToString(Append(nil, m)) + "\n")
		}
		if err := os.WriteFile(goldenFile, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	frames := golden(t)
	if len(frames) != len(examples) {
		t.Fatalf("%d frames, %d examples", len(frames), len(examples))
	}
	seen := make(map[Type]bool)
	for i, m := range examples {
		if got := Append(nil, m); !bytes.Equal(got, frames[i]) {
			t.Errorf("%T: got %x, want %x", m, got, frames[i])
		}
		h, err := ParseHeader(frames[i])
		if err != nil || h.Len != len(frames[i])-HeaderSize {
			t.Errorf("%T: header %+v, %v", m, h, err)
		}
		back, err := Parse(h.Type, frames[i][HeaderSize:])
		if err != nil {
			t.Errorf("%T: %v", m, err)
		} else if diff := cmp.Diff(m, back); diff != "" {
			t.Errorf("%T: %s", m, diff)
		}
		seen[h.Type] = true
	}
	for kind := range kinds {
		if !seen[kind] {
			t.Errorf("no example of type %d", kind)
		}
	}
}

func TestTheProtocolsDocumentHasTheSameBytes(t *testing.T) {
	doc, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, frame := range golden(t) {
		if !bytes.Contains(doc, []byte(hex.EncodeToString(frame))) {
			t.Errorf("%T is not in docs/PROTOCOL.md: %x", examples[i], frame)
		}
	}
}

func TestEveryProperPrefixAndEveryFlippedBitFailsCleanly(t *testing.T) {
	for i, frame := range golden(t) {
		kind, payload := Type(frame[4]), frame[HeaderSize:]
		for n := range payload {
			if _, err := Parse(kind, payload[:n]); !errors.Is(err, ErrMessage) {
				t.Errorf("%T cut at %d: %v", examples[i], n, err)
			}
		}
		for bit := range 8 * len(payload) {
			b := bytes.Clone(payload)
			b[bit/8] ^= 1 << (bit % 8)
			if m, err := Parse(kind, b); err == nil {
				Append(nil, m) // what parses can be written
			}
		}
	}
}

func TestWhatIsOutOfRangeIsRefused(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, m := range map[string]Message{
		"channel 0":            &Want{},
		"no id":                &Open{Channel: 1},
		"size below 0":         &Info{Channel: 1, Known: true, Size: -1},
		"size too large":       &Hold{ID: someID, Size: content.MaxSize + 1},
		"all, not known":       &Info{Channel: 1, All: true},
		"have of nothing":      &Have{Channel: 1},
		"have of both":         &Have{Channel: 1, Bitmap: []byte{1}, Runs: []uint32{0, 1}},
		"runs beyond the end":  &Have{Channel: 1, First: 5, Runs: []uint32{1 << 31, 1 << 31}},
		"half a run":           &Have{Channel: 1, Runs: []uint32{1}},
		"bitmap beyond":        &Have{Channel: 1, First: content.MaxPieces - 1, Bitmap: []byte{0x40}},
		"piece too large":      &Get{Channel: 1, Credit: 1, Request: 1, Piece: content.MaxPieces},
		"part over its total":  &Part{Channel: 1, Offset: 2, Total: 3, Bytes: []byte{1, 2}},
		"part that wraps":      &Part{Channel: 1, Offset: 1<<64 - 1, Total: 3, Bytes: []byte{1, 2}},
		"part of nothing":      &Part{Channel: 1, Total: 3},
		"name with a slash":    &Find{Name: "a/b"},
		"name and prefix":      &Find{Name: "a", Bits: 8, Prefix: content.ID{1}},
		"bits behind a prefix": &Find{Bits: 7, Prefix: content.ID{1}},
		"no question":          &Find{},
		"long name":            &Offer{Record: Record{Name: long, ID: someID, Chain: [][]byte{{1}, {1}}, Sig: []byte{1}}},
		"no chain":             &Offer{Record: Record{Name: "a", ID: someID, Sig: []byte{1}}},
		"host name":            &Enter{Addrs: []string{"example:1"}},
		"port 0":               &Enter{Addrs: []string{"10.0.0.1:0"}},
		"multicast":            &Enter{Addrs: []string{"224.0.0.1:1"}},
		"many addresses":       &Enter{Addrs: make([]string, 17)},
		"long text":            &Bye{Text: long},
		"not UTF-8":            &Hello{Name: "\xff"},
		"long site":            &Hello{Site: long},
		"a claim to no piece":  &Claim{Channel: 1, Pieces: []uint32{content.MaxPieces}},
		"many claims":          &Claim{Channel: 1, Pieces: make([]uint32, MaxClaims+1)},
		"a claim to nothing":   &Claim{},
		"begun and lost":       &Have{Channel: 1, Runs: []uint32{0, 1}, Begun: true, Lost: true},
		"a proof of nothing":   &Proof{Request: 1},
		"half a proof":         &Proof{Request: 1, Parts: make([]byte, 48)},
		"a proof of many":      &Proof{Request: 1, Parts: make([]byte, 32*(content.MaxParts+1))},
		"no statements":        &Removed{},
		"credit 0":             &Credit{Channel: 1},
		"request 0":            &Cancel{},
	} {
		frame := Append(nil, m)
		if got, err := Parse(m.Type(), frame[HeaderSize:]); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestCBORThatIsNotPlainIsRefused(t *testing.T) {
	for name, digits := range map[string]string{
		"short id":             "a2010102582f" + strings.Repeat("a1", 47),
		"id of 31 bytes":       "a20101025" + "81f" + strings.Repeat("a1", 31),
		"id of 33 bytes":       "a201010258" + "21" + strings.Repeat("a1", 33),
		"a key twice":          "a201010101",
		"indefinite length":    "bf0101ff",
		"a tag":                "c0a10101",
		"bytes behind":         "a1010100",
		"no map":               "8101",
		"a float":              "a101f93c00",
		"a huge array claimed": "a2010102" + "9b00000000ffffffff",
		"a huge map claimed":   "bb00000000ffffffff",
		"a deep nest":          "a10281818181818181818181818181",
	} {
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, kind := range []Type{TypeOpen, TypeRemoved, TypeFound} {
			if m, err := Parse(kind, b); err == nil {
				t.Errorf("%s: as type %d: %+v", name, kind, m)
			}
		}
	}
	b, _ := hex.DecodeString("a2010118630a")
	if m, err := Parse(TypePing, b); err != nil || m.(*Ping).Number != 1 {
		t.Errorf("unknown keys: %+v, %v", m, err)
	}
}

func TestUnknownTypes(t *testing.T) {
	if m, err := Parse(201, []byte{1, 2}); m != nil || err != nil {
		t.Errorf("odd: %v, %v", m, err)
	}
	if _, err := Parse(200, nil); !errors.Is(err, ErrType) {
		t.Errorf("even: %v", err)
	}
}

func TestALengthIsHeldAgainstItsLimit(t *testing.T) {
	for _, c := range []struct {
		frame []byte
		want  error
	}{
		{[]byte{0, 0, 0, 0, byte(TypePing)}, ErrShort},
		{[]byte{0, 1, 0, 1, byte(TypePing)}, ErrLong},
		{[]byte{0, 1, 0, 0, byte(TypePing)}, nil},
		{[]byte{0, 2, 0, 11, byte(TypeData)}, nil},
		{[]byte{0, 2, 0, 12, byte(TypeData)}, ErrLong},
		{[]byte{255, 255, 255, 255, byte(TypeData)}, ErrLong},
	} {
		if _, err := ParseHeader(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%x: %v", c.frame, err)
		}
	}
}

// The largest message of each list still fits a frame: Append would panic.
func TestTheLargestMessagesFit(t *testing.T) {
	b := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	long := strings.Repeat("n", MaxName)
	var addrs []string
	for range MaxAddrs {
		addrs = append(addrs, "[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
	}
	nine := addrs[:9] // what a server keeps of a peer
	record := Record{Name: long, ID: someID, Size: content.MaxSize, Chain: [][]byte{b(MaxCert), b(MaxCert)}, Sig: b(MaxSig)}
	found := &Found{More: b(MaxCursor)}
	for range MaxEntries {
		found.Entries = append(found.Entries, Entry{
			Name: long, ID: someID, Size: content.MaxSize, Holders: 1 << 63, Seeds: 1 << 63, Age: 1 << 63, By: somePeer,
			ByName: long[:MaxAgent], Record: &record,
		})
	}
	peers := &Peers{ID: someID, Total: 1 << 63}
	there := &There{More: b(MaxCursor)}
	for range MaxPeers {
		peers.Added = append(peers.Added, PeerAddr{ID: somePeer, Instance: 1 << 63, Addrs: nine})
		peers.Gone = append(peers.Gone, PeerAddr{ID: somePeer, Instance: 1 << 63})
	}
	for range MaxMembers {
		there.Members = append(there.Members, Member{
			ID: somePeer, Name: long[:MaxAgent], Role: "member", Addrs: nine, Online: true, Joined: 1 << 62, Removed: true,
			Agent: long[:MaxAgent], Shares: 1 << 63,
		})
	}
	var list [][]byte
	for range MaxStatements {
		list = append(list, b(MaxStatement))
	}
	runs := make([]uint32, MaxRuns)
	for i := range runs {
		runs[i] = 1
	}
	runs[0] = content.MaxPieces - MaxRuns
	for _, m := range []Message{
		found, (*Here)(found), peers, there, &Removed{Statements: list}, &Enter{Addrs: addrs, Removals: list}, &Offer{Record: record},
		&Part{Channel: 1 << 63, Total: maxManifest, Bytes: b(MaxPart)}, &Have{Channel: 1 << 63, Runs: runs},
		&Have{Channel: 1 << 63, Epoch: 1 << 63, Bitmap: b(MaxBitmap)},
	} {
		frame := Append(nil, m)
		if _, err := Parse(m.Type(), frame[HeaderSize:]); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, frame := range golden(f) {
		f.Add(frame[4], frame[HeaderSize:])
	}
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		m, err := Parse(Type(kind), payload)
		if err != nil || m == nil || len(payload) > MaxControl-1 {
			return
		}
		frame := Append(nil, m)
		back, err := Parse(Type(kind), frame[HeaderSize:])
		if err != nil {
			t.Fatalf("%+v does not parse again: %v", m, err)
		}
		if !bytes.Equal(Append(nil, back), frame) {
			t.Fatalf("%+v encodes to other bytes", m)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderSize {
			return
		}
		if h, err := ParseHeader(b); err == nil && (h.Len < 0 || h.Len > maxData) {
			t.Fatal(h)
		}
	})
}

func FuzzData(f *testing.F) {
	f.Add(AppendData(nil, 300, 2)[HeaderSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		request, raw, err := ParseData(b)
		if err != nil {
			return
		}
		frame := append(AppendData(nil, request, len(raw)), raw...)
		if again, _, err := ParseData(frame[HeaderSize:]); err != nil || again != request {
			t.Fatal(again, err)
		}
	})
}

func TestNamesThatCannotBeOffered(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "a/b", `a\b`, "a\x00", "a\nb", "a\x1b[31m", "\xff", strings.Repeat("a", 256),
		"gpj.\u202eexe", "a\u2066b", "\u200fa", "\u061ca",
	} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"a", "...", ".profile", "ä ö.img", "日本", "a\u200db", strings.Repeat("a", 255), "-rf", "C:x", "%2e%2e%2f"} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
