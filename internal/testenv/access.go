package testenv

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"aggregator/config"
)

// Grant runs config/roles.sql in a database. Roles belong to the whole server, and no
// other test may run it there at the same time. Databases from Database have been through it.
func Grant(ctx context.Context, databaseURL string) error {
	granting.Lock()
	defer granting.Unlock()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, config.Roles())
	return errors.Join(err, conn.Close(ctx))
}

// granting lets one in at a time: roles are those of the whole server, and PostgreSQL refuses to change one twice at
// once.
var granting sync.Mutex

// As returns the URL of a database for one of the roles of config/roles.sql, such as
// aggregator_daemon. Our servers ask for no password.
func As(t testing.TB, databaseURL, role string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// RedisPassword is that of every user from RedisAs.
const RedisPassword = "not-so-secret"

// RedisAs makes one of the users of config/redis.acl on a server, such as aggregator_stream,
// and returns the server's URL for it. Its rights are to key in place of the file's keys; to
// these, if key is empty.
// The URL that was given must be that of a user who may do anything, and stays so. A server
// that is to know the user also after a restart needs the option Users.
func RedisAs(t testing.TB, redisURL, user, key string) string {
	t.Helper()
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	command := []any{"ACL", "SETUSER", user, "reset"}
	for _, rule := range aclRules(key)[user] {
		command = append(command, rule)
	}
	if err := client.Do(t.Context(), command...).Err(); err != nil {
		t.Fatalf("make the user %s: %v", user, err)
	}
	u, err := url.Parse(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, RedisPassword)
	return u.String()
}

// Users gives a server the users of config/redis.acl from its start on. See RedisAs.
func Users(key string) RedisOption {
	var args []string
	for user, rules := range aclRules(key) {
		args = append(append(args, "--user", user), rules...)
	}
	return RedisArgs(args...)
}

// aclRules are the rules of config/redis.acl by user, with a password, for the one key.
func aclRules(key string) map[string][]string {
	text := config.ACL()
	if key != "" {
		text = strings.NewReplacer("book-like-events", key, "BookLikeEventList", key).Replace(text)
	}
	rules := map[string][]string{}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); words[1] != "default" {
			rules[words[1]] = append(words[2:], ">"+RedisPassword)
		}
	}
	return rules
}
