package config

import _ "embed"

// Who may do what on the servers, as the administrators of both set it up. The daemon
// itself has no use for either file; the tests run as the users that they describe.
var (
	//go:embed roles.sql
	rolesSQL string
	//go:embed redis.acl
	redisACL string
)

// Roles returns roles.sql: the roles in PostgreSQL and their privileges.
func Roles() string { return rolesSQL }

// ACL returns redis.acl: the users of Redis, one a line.
func ACL() string { return redisACL }
