-- Forgets the roles of people that somebody has dropped by hand. A dump would write their numbers,
-- for want of names, and the cluster that it is restored to may have given them to others.
CREATE OR REPLACE FUNCTION postern.forget_dropped()
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM postern.managed_role m
    WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = m.role_oid)
$$;

REVOKE ALL ON FUNCTION postern.forget_dropped() FROM PUBLIC;
