//go:build faults

package faults_test

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between the daemon and a server. It understands just enough of what the
// daemon says to lose the reply to a message of a chosen name.
type proxy struct {
	listener net.Listener
	next     splitter

	mu     sync.Mutex
	target string
	seen   map[string]int // messages, by name
	name   string         // of the messages whose reply gets lost
	stall  bool           // the connection stays open, in place of a cut
	left   int            // how many still
	lost   int
	total  struct{ cuts, stalls int } // replies lost ever
}

// splitter returns the name of the first message and its length, 0 if it is not complete.
type splitter func(data []byte, first bool) (name string, length int)

// newProxy returns a proxy before the server of a URL, and the URL of the proxy.
func newProxy(t *testing.T, server string, next splitter) (*proxy, string) {
	t.Helper()
	address, err := url.Parse(server)
	require.NoError(t, err)
	p := &proxy{target: address.Host, next: next, seen: map[string]int{}}
	p.listener, err = net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed by the test
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.listener.Close() })
	go func() {
		for {
			client, err := p.listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	address.Host = p.listener.Addr().String()
	return p, address.String()
}

// lose makes the next replies to messages of that name get lost: the message reaches the
// server, and then the connection is cut, or stalls.
func (p *proxy) lose(name string, times int, stall bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name, p.left, p.stall, p.lost = name, times, stall, 0
}

// moveTo makes new connections lead to another server.
func (p *proxy) moveTo(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = server
}

func (p *proxy) leadsTo() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

func (p *proxy) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// ever are the replies that were lost since the beginning.
func (p *proxy) ever() (cuts, stalls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total.cuts, p.total.stalls
}

func (p *proxy) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.seen))
}

// due counts a message, and says whether the reply to it shall get lost.
func (p *proxy) due(name string) (lose, stall bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[name]++
	if name != p.name || p.left == 0 {
		return false, false
	}
	p.left--
	p.lost++
	if p.stall {
		p.total.stalls++
	} else {
		p.total.cuts++
	}
	return true, p.stall
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn

	mu             sync.Mutex
	losing, stalls bool
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.leadsTo()) //nolint:noctx // it ends with either side
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
	go l.replies()
	defer l.close()
	var pending []byte // a message that is not complete
	buffer := make([]byte, 64<<10)
	for first := true; ; {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		pending = append(pending, buffer[:n]...)
		for {
			name, length := p.next(pending, first)
			if length == 0 {
				break
			}
			if lose, stall := p.due(name); lose {
				l.lose(stall)
			}
			first, pending = false, pending[length:]
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (l *link) lose(stall bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losing, l.stalls = true, stall
}

// replies passes on what the server says.
func (l *link) replies() {
	defer l.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		losing, stalls := l.losing, l.stalls
		l.mu.Unlock()
		switch {
		case losing && stalls:
			continue
		case losing:
			return
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// redisMessages splits commands. Scripts have the name of their file.
func redisMessages(t *testing.T) splitter {
	t.Helper()
	names := scriptNames(t)
	return func(data []byte, _ bool) (string, int) {
		header, rest, complete := bytes.Cut(data, []byte("\r\n"))
		if !complete {
			return "", 0
		}
		n, err := strconv.Atoi(strings.TrimPrefix(string(header), "*"))
		if err != nil {
			return fmt.Sprintf("%q", header), len(data)
		}
		words := make([]string, 0, 2)
		for i := range n {
			header, body, complete := bytes.Cut(rest, []byte("\r\n"))
			length, err := strconv.Atoi(strings.TrimPrefix(string(header), "$"))
			if !complete || err != nil || len(body) < length+2 {
				return "", 0
			}
			if i < 2 {
				words = append(words, string(body[:length]))
			}
			rest = body[length+2:]
		}
		name := strings.ToUpper(words[0])
		switch name {
		case "EVALSHA", "EVALSHA_RO":
			name += " " + names[words[1]]
		case "EVAL", "EVAL_RO":
			name += " " + names[sum(words[1])]
		}
		return name, len(data) - len(rest)
	}
}

// scriptNames maps the hash of each script of the daemon's to its name.
func scriptNames(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	dir := filepath.Join(module, "internal", "events", "scripts")
	prelude, err := os.ReadFile(filepath.Join(dir, "prelude.lua"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "*.lua"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, flags := range []string{"no-writes", "allow-oom"} {
			names[sum("#!lua flags="+flags+"\n"+string(prelude)+string(text))] = strings.TrimSuffix(filepath.Base(file), ".lua")
		}
	}
	return names
}

func sum(text string) string {
	hash := sha1.Sum([]byte(text)) //nolint:gosec // see above
	return hex.EncodeToString(hash[:])
}

// postgresMessages splits what a client says; of a simple query it names the first word.
func postgresMessages(data []byte, first bool) (string, int) {
	if first { // without a type
		if len(data) < 4 || len(data) < int(binary.BigEndian.Uint32(data)) {
			return "", 0
		}
		return "startup", int(binary.BigEndian.Uint32(data))
	}
	if len(data) < 5 || len(data) < 1+int(binary.BigEndian.Uint32(data[1:])) {
		return "", 0
	}
	length := 1 + int(binary.BigEndian.Uint32(data[1:]))
	switch data[0] {
	case 'Q':
		word, _, _ := strings.Cut(strings.ToLower(strings.Trim(string(data[5:length]), "\x00 ")), " ")
		return "query " + strings.TrimSuffix(word, ";"), length
	case 'P':
		return "parse", length
	case 'B':
		return "bind", length
	case 'D':
		return "describe", length
	case 'E':
		return "execute", length
	case 'S':
		return "sync", length
	case 'X':
		return "terminate", length
	}
	return string(data[:1]), length
}
