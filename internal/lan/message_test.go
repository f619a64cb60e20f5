package lan

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	someTag  = "aaaabbbbccccdddd"
	otherTag = "zzzzzzzzzzzzzzzz"
	someName = "abcdefghijklmnop"
)

var (
	someAddrs   = []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fe80::5")}
	someService = Service{Name: someName, Port: 50002}
)

// golden has each packet that we send, as docs/PROTOCOL.md section 15 has it.
func golden() map[string][]byte {
	asked, _ := parse(appendQuestion(nil, 0x1234, someTag), someTag)
	return map[string][]byte{
		"question":     appendQuestion(nil, 0x1234, someTag),
		"announcement": appendAnnouncement(nil, someTag, someService, someAddrs, announceTTL),
		"answer":       appendAnswer(nil, asked.query, someTag, Service{Name: someName, Port: 50001, Server: true}, someAddrs[:1]),
	}
}

func TestThePacketsAreThoseOfTheProtocolsDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range golden() {
		if !strings.Contains(string(doc), hex.EncodeToString(b)) {
			t.Errorf("docs/PROTOCOL.md lacks the %s:\n%x", name, b)
		}
	}
}

func TestWhatIsSaidIsHeardInTheSameSwarmOnly(t *testing.T) {
	server := someService
	server.Server = true
	for _, tc := range []struct {
		name string
		b    []byte
		want found
	}{
		{"a peer", appendAnnouncement(nil, someTag, someService, someAddrs, announceTTL), found{Service: someService}},
		{"a server", appendAnnouncement(nil, someTag, server, nil, announceTTL), found{Service: server}},
		{"one that goes", appendAnnouncement(nil, someTag, someService, nil, 0), found{Service: someService, gone: true}},
		{"an answer", appendAnswer(nil, query{id: 7}, someTag, someService, someAddrs), found{Service: someService}},
	} {
		m, ok := parse(tc.b, someTag)
		if !ok || !m.response || len(m.found) != 1 || m.found[0] != tc.want {
			t.Errorf("%s: %+v, %v", tc.name, m, ok)
		}
		if m, ok := parse(tc.b, otherTag); ok {
			t.Errorf("%s is heard in another swarm: %+v", tc.name, m)
		}
		for cut := range tc.b {
			if m, ok := parse(tc.b[:cut], someTag); ok && m.found[0].Name != someName {
				t.Errorf("%s, cut off at %d: %+v", tc.name, cut, m)
			}
		}
	}
}

func TestAQuestionIsForThoseItAsksFor(t *testing.T) {
	for name, want := range map[string]bool{
		swarmName(someTag): true, strings.ToUpper(swarmName(someTag)): true, serviceName: true, typesName: true,
		instanceName(someName): true, hostName(someName): true,
		swarmName(otherTag): false, instanceName("zzzzzzzzzzzzzzzz"): false, "_http._tcp.local.": false, ".": false,
	} {
		q := query{questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
		if got := q.about(someTag, someName); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	q := query{questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(serviceName), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	if q.about(someTag, someName) {
		t.Error("a service has no address")
	}
}

// Nothing of a machine but what it must say: its name, its files and who it is do not go over the network.
func TestAnAnnouncementTellsNoMore(t *testing.T) {
	var p dnsmessage.Parser
	if _, err := p.Start(golden()["announcement"]); err != nil {
		t.Fatal(err)
	}
	var texts []string
	m := dnsmessage.Message{}
	if err := m.Unpack(golden()["announcement"]); err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Concat(m.Answers, m.Additionals) {
		texts = append(texts, r.Header.Name.String())
		switch body := r.Body.(type) {
		case *dnsmessage.PTRResource:
			texts = append(texts, body.PTR.String())
		case *dnsmessage.SRVResource:
			texts = append(texts, body.Target.String())
		case *dnsmessage.TXTResource:
			texts = append(texts, strings.Join(body.TXT, ""))
		}
	}
	rest := strings.NewReplacer(
		someTag, "", someName, "", "_shoal._tcp", "", "_sub", "", "shoal-", "", "local", "", "_", "", ".", "").Replace(strings.Join(texts, ""))
	if rest != "" {
		t.Errorf("it tells of %q", rest)
	}
}

func TestOfOnePacketLittleIsTaken(t *testing.T) {
	n := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true})
	errs := []error{n.StartAnswers()}
	names := func(i int) string { return strings.Repeat("a", nameLen-1) + string("abcdefghijklmnopqrstuvwxyz"[i]) }
	head := func(name string) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 9}
	}
	for i := range 20 {
		errs = append(errs,
			n.PTRResource(head(swarmName(someTag)), dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(instanceName(names(i)))}),
			n.SRVResource(head(instanceName(names(i))), dnsmessage.SRVResource{Port: 1, Target: dnsmessage.MustNewName("x.")}))
	}
	m, ok := parse(finish(&n, errs...), someTag)
	if !ok || len(m.found) != maxFound {
		t.Errorf("%d services of one packet", len(m.found))
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range golden() {
		f.Add(b)
	}
	f.Add(appendAnnouncement(nil, someTag, someService, nil, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parse(b, someTag)
		if !ok {
			return
		}
		if len(m.found) > maxFound || len(m.query.questions) > maxQuestions {
			t.Fatalf("%d services, %d questions", len(m.found), len(m.query.questions))
		}
		for _, s := range m.found {
			if !CheckName(s.Name) || s.Port == 0 && !s.gone {
				t.Fatalf("%+v", s)
			}
		}
		if !m.response { // whatever was asked can be answered
			m.query.about(someTag, someName)
			if b := appendAnswer(nil, m.query, someTag, someService, someAddrs); !bytes.Contains(b, []byte(someName)) {
				t.Fatal("an answer without a name")
			}
		}
	})
}
