#!/bin/sh
# What the image redis runs before its program, as the official one's docker-entrypoint.sh does
# (https://github.com/docker-library/redis): options, or a configuration file, are arguments of redis-server. The
# official image's server is built without protected mode, which would refuse all other pods.
case ${1-} in
    "" | -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "${1##*/}" = redis-server ]; then
    # The image's working directory, where the manifest has none: what is kept on disk is there.
    [ "$PWD" != / ] || { mkdir -p /data && cd /data; } || exit
    program=$1
    shift
    case ${1-} in
        "" | -*) set -- "$program" --protected-mode no "$@" ;;
        *)
            file=$1
            shift
            set -- "$program" "$file" --protected-mode no "$@"
            ;;
    esac
fi
exec "$@"
