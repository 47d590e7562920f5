-- Why a name can never be the role of a person or of a group; null if it can.
-- Names of 64 bytes and more are refused, because PostgreSQL would cut them and two would become
-- one. The last list is what managed services call roles of their own.
CREATE OR REPLACE FUNCTION postern.reserved_name(p_name text)
RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE
        WHEN p_name IS NULL OR p_name = '' THEN 'the name is empty'
        WHEN octet_length(p_name) > 63 THEN 'the name is longer than 63 bytes'
        WHEN p_name ~ '^pg_' THEN 'names that begin with pg_ are PostgreSQL''s own'
        WHEN p_name IN ('public', 'none') THEN 'SQL gives the name a meaning of its own'
        WHEN p_name IN ('postern_owner', 'postern_people') THEN 'Postern itself acts as it'
        WHEN p_name IN (
            'rdsadmin', 'rds_superuser', 'rds_replication', 'rds_password', 'rds_iam', 'rds_ad',
            'azuresu', 'azure_superuser', 'azure_pg_admin', 'cloudsqladmin', 'cloudsqlsuperuser',
            'cloudsqlimportexport', 'cloudsqlreplica', 'cloudsqliamuser', 'alloydbadmin',
            'alloydbsuperuser'
        ) THEN 'the name belongs to a managed service'
    END;
END
$$;

REVOKE ALL ON FUNCTION postern.reserved_name(text) FROM PUBLIC;
