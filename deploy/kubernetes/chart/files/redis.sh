# The password goes into a file that Redis alone reads: a command line is seen by everybody.
umask 077
printf 'requirepass %s\n' "$REDIS_PASSWORD" >/run/redis/auth.conf
exec redis-server /etc/redis/redis.conf
