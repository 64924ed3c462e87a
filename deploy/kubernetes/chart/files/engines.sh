# Leaves a repository with its plans in /engines/$KEY, and `ready` beside it when all is there.
[ ! -e "/engines/$KEY/ready" ] || exit 0
for arguments in "$REPOSITORY"/*/trtexec.args; do
    grep -q "^--key=$MODEL_SHA256" "$arguments" || { echo "$arguments is of other weights than $MODEL_SHA256" >&2; exit 1; }
done
mkdir -p "/engines/$KEY"
rm -rf "/engines/$KEY/repository"
cp -r "$REPOSITORY" "/engines/$KEY/repository"
/opt/tamvt/build_engine.sh "/engines/$KEY/repository" /engines/cache
touch "/engines/$KEY/ready"
