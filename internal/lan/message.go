package lan

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	mdnsPort = 5353
	// announceTTL is how long others may remember what is announced, in seconds; answerTTL, those who ask from another port, who are
	// no members of the group.
	announceTTL = 120
	answerTTL   = 10
	// nameLen is the length of a name and of a tag.
	nameLen = 16
	// maxQuestions and maxRecords bound what is read of one packet, maxFound what is taken of it.
	maxQuestions = 16
	maxRecords   = 64
	maxFound     = 8

	serviceName = "_shoal._tcp.local."
	typesName   = "_services._dns-sd._udp.local."
	serverText  = "server"
	// topBit of a class asks for an answer to the asker alone; in an answer it says that the record is the only one.
	topBit = 1 << 15
)

// query is what one packet asks.
type query struct {
	id        uint16
	questions []dnsmessage.Question
	unicast   bool // only the asker wants to hear the answer
}

// found is a service that a packet tells of.
type found struct {
	Service
	gone bool
}

// message is what a packet says to us.
type message struct {
	response bool
	query    query
	found    []found
}

// CheckName says whether a name or tag is one: 16 characters of base32.
func CheckName(s string) bool {
	return len(s) == nameLen && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func swarmName(tag string) string     { return "_" + tag + "._sub." + serviceName }
func instanceName(name string) string { return name + "." + serviceName }
func hostName(name string) string     { return "shoal-" + name + ".local." }

// about says whether a question is about a service of ours.
func (q query) about(tag, name string) bool {
	for _, k := range q.questions {
		switch asked := strings.ToLower(k.Name.String()); asked {
		case swarmName(tag), serviceName, typesName:
			if k.Type == dnsmessage.TypePTR || k.Type == dnsmessage.TypeALL {
				return true
			}
		case instanceName(name), hostName(name):
			return true
		}
	}
	return false
}

// parse reads a packet; ok is false when it is nothing for us. Of a response, what belongs to the swarm of the tag is taken.
func parse(b []byte, tag string) (m message, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.OpCode != 0 || h.RCode != 0 || h.Truncated {
		return m, false
	}
	m.query.id, m.response = h.ID, h.Response
	for range maxQuestions {
		q, err := p.Question()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return m, false
		}
		m.query.unicast = m.query.unicast || q.Class&topBit != 0
		m.query.questions = append(m.query.questions, q)
	}
	if !m.response {
		return m, len(m.query.questions) > 0
	}
	if err := p.SkipAllQuestions(); err != nil {
		return m, false
	}
	m.found = services(&p, tag)
	return m, len(m.found) > 0
}

// services puts together what the records of a response tell of the swarm's services. What is malformed ends the packet.
func services(p *dnsmessage.Parser, tag string) (out []found) {
	ports, servers := make(map[string]uint16), make(map[string]bool)
	left := maxRecords
	record := func(header func() (dnsmessage.ResourceHeader, error), skip func() error) (more bool) {
		h, err := header()
		if left--; err != nil || left < 0 {
			return false
		}
		name := strings.ToLower(h.Name.String())
		switch h.Type {
		case dnsmessage.TypePTR:
			r, err := p.PTRResource()
			if err != nil {
				return false
			}
			label, isOurs := strings.CutSuffix(strings.ToLower(r.PTR.String()), "."+serviceName)
			if name == swarmName(tag) && isOurs && CheckName(label) && len(out) < maxFound {
				out = append(out, found{Service: Service{Name: label}, gone: h.TTL == 0})
			}
		case dnsmessage.TypeSRV:
			r, err := p.SRVResource()
			if err != nil {
				return false
			}
			ports[name] = r.Port
		case dnsmessage.TypeTXT:
			r, err := p.TXTResource()
			if err != nil {
				return false
			}
			for _, text := range r.TXT {
				servers[name] = servers[name] || text == serverText
			}
		default:
			return skip() == nil
		}
		return true
	}
	for record(p.AnswerHeader, p.SkipAnswer) {
	}
	if p.SkipAllAnswers() == nil && p.SkipAllAuthorities() == nil {
		for record(p.AdditionalHeader, p.SkipAdditional) {
		}
	}
	known := out[:0]
	for _, f := range out {
		f.Port, f.Server = ports[instanceName(f.Name)], servers[instanceName(f.Name)]
		if f.Port != 0 || f.gone {
			known = append(known, f)
		}
	}
	return known
}

// appendQuestion appends the packet that asks for all of a swarm.
func appendQuestion(b []byte, id uint16, tag string) []byte {
	n := dnsmessage.NewBuilder(b, dnsmessage.Header{ID: id})
	n.EnableCompression()
	return finish(&n, n.StartQuestions(), n.Question(dnsmessage.Question{
		Name: dnsmessage.MustNewName(swarmName(tag)), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET,
	}))
}

// appendAnnouncement appends the packet that tells everybody of a service; with the time 0, of its end.
func appendAnnouncement(b []byte, tag string, s Service, addrs []netip.Addr, ttl uint32) []byte {
	n := dnsmessage.NewBuilder(b, dnsmessage.Header{Response: true, Authoritative: true})
	n.EnableCompression()
	return finish(&n, records(&n, tag, s, addrs, ttl, topBit))
}

// appendAnswer appends the packet that answers one who asked: with the question and the number of its own, and for a short time.
func appendAnswer(b []byte, q query, tag string, s Service, addrs []netip.Addr) []byte {
	n := dnsmessage.NewBuilder(b, dnsmessage.Header{ID: q.id, Response: true, Authoritative: true})
	n.EnableCompression()
	err := n.StartQuestions()
	if err == nil && len(q.questions) == 1 {
		k := q.questions[0]
		k.Class &^= topBit
		err = n.Question(k)
	}
	return finish(&n, err, records(&n, tag, s, addrs, answerTTL, 0))
}

// records appends the records of a service: pointers to it as answers, and where it is in addition. Unique is the bit of those
// that nobody else has.
func records(n *dnsmessage.Builder, tag string, s Service, addrs []netip.Addr, ttl uint32, unique dnsmessage.Class) error {
	head := func(name string, unique dnsmessage.Class) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET | unique, TTL: ttl}
	}
	instance, host := dnsmessage.MustNewName(instanceName(s.Name)), dnsmessage.MustNewName(hostName(s.Name))
	text := []string{""} // an empty one stands for none
	if s.Server {
		text[0] = serverText
	}
	errs := []error{
		n.StartAnswers(),
		n.PTRResource(head(swarmName(tag), 0), dnsmessage.PTRResource{PTR: instance}),
		n.PTRResource(head(serviceName, 0), dnsmessage.PTRResource{PTR: instance}),
		n.StartAdditionals(),
		n.SRVResource(head(instanceName(s.Name), unique), dnsmessage.SRVResource{Port: s.Port, Target: host}),
		n.TXTResource(head(instanceName(s.Name), unique), dnsmessage.TXTResource{TXT: text}),
	}
	for _, a := range addrs[:min(len(addrs), maxFound)] {
		if a.Is4() {
			errs = append(errs, n.AResource(head(hostName(s.Name), unique), dnsmessage.AResource{A: a.As4()}))
		} else {
			errs = append(errs, n.AAAAResource(head(hostName(s.Name), unique), dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// finish returns a packet whose parts are all our own, and hence well formed.
func finish(n *dnsmessage.Builder, errs ...error) []byte {
	b, err := n.Finish()
	for _, e := range append(errs, err) {
		if e != nil {
			panic("lan: " + e.Error())
		}
	}
	return b
}
