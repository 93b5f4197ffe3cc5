package testenv

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// serverTLS makes a server speak TLS and nothing else.
type serverTLS struct {
	cert      Certificate
	clients   []byte      // the authority of clients' certificates
	ourselves *tls.Config // how we ask whether the server is up
}

func newServerTLS(a *Authority, cert Certificate) *serverTLS {
	own := a.Issue("testenv", time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair(own.Cert, own.Key)
	a.must(err)
	return &serverTLS{cert: cert, clients: a.pem, ourselves: &tls.Config{
		Certificates:       []tls.Certificate{pair},
		InsecureSkipVerify: true, // the server's may be wrong on purpose
	}}
}

// RedisTLS makes the server speak TLS only, with that certificate, to clients that show
// one of the authority's; to its replicas, Sentinels and the other nodes of a cluster, too.
func RedisTLS(clients *Authority, cert Certificate) RedisOption {
	return func(s *RedisServer) { s.secure = newServerTLS(clients, cert) }
}

// PostgresTLS makes the server speak TLS only, with that certificate, and ask every role
// for its password but the superuser.
func PostgresTLS(clients *Authority, cert Certificate) PostgresOption {
	return func(s *PostgresServer) { s.secure = newServerTLS(clients, cert) }
}

// files writes the certificates to the server's folder, and returns their names.
func (s *serverTLS) files(f folder) (cert, key, clients string, err error) {
	for _, file := range []struct {
		name    string
		content []byte
		path    *string
	}{{"cert.pem", s.cert.Cert, &cert}, {"key.pem", s.cert.Key, &key}, {"clients.pem", s.clients, &clients}} {
		if *file.path, err = f.write(file.name, file.content); err != nil {
			return "", "", "", fmt.Errorf("write certificate: %w", err)
		}
	}
	return cert, key, clients, nil
}

// own are the options of a client that asks this very server.
func (s *RedisServer) own() *redis.Options {
	o := &redis.Options{Addr: address(s.port)}
	if s.secure != nil {
		o.TLSConfig = s.secure.ourselves
	}
	return o
}

func (s *RedisServer) scheme() string {
	if s.secure != nil {
		return "rediss"
	}
	return "redis"
}

func (s *RedisServer) portOption() string {
	if s.secure != nil {
		return "--tls-port"
	}
	return "--port"
}

func (s *RedisServer) writeCertificates() error {
	if s.secure == nil {
		return nil
	}
	cert, key, clients, err := s.secure.files(s.folder)
	s.args = append([]string{
		"--port", "0", "--tls-replication", "yes", "--tls-cluster", "yes", "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", clients,
	}, s.args...)
	return err
}

const onlyTLS = `hostssl all postgres all trust
hostssl all all all scram-sha-256
`

func (s *PostgresServer) writeCertificates() error {
	if s.secure == nil {
		return nil
	}
	cert, key, clients, err := s.secure.files(s.folder)
	if err != nil {
		return err
	}
	access, err := s.folder.write("pg_hba.conf", []byte(onlyTLS))
	s.settings = append(s.settings, "ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key, "ssl_ca_file="+clients,
		"hba_file="+access)
	return err
}
